import dataclasses

import numpy as np
import pytest

from service.numerics.verdict.gradient_verdict import (
    MAX_WORST_ELEMENTS,
    JudgedEntries,
    SampleMissRate,
    assemble_directional_verdict,
    assemble_elementwise_verdict,
    combine_outcomes,
    list_results,
)
from service.numerics.verdict.outcome import CAUSES, Cause, Outcome
from service.numerics.verdict.projection import NormDetectionLimit

AGREES, WRONG, UNCERTAIN = Cause.AGREES, Cause.EXCEEDS_ALLOWED_ERROR, Cause.TOO_UNCERTAIN


def explain(cause, concerned):
    return f"{cause.name} at {np.flatnonzero(concerned).tolist()}", "Mend it."


def make_entries(causes, values=None, **fields):
    """Entries by source against a reference of 1, each allowed to be off by 0.1."""
    size = len(next(iter(causes.values())))
    defaults = {
        "values": values or {source: np.ones(size) for source in causes},
        "causes": {source: np.array([CAUSES.index(cause) for cause in row]) for source, row in causes.items()},
        "reference": np.ones(size),
        "error_bound": np.full(size, 0.05),
        "allowed_error": np.full(size, 0.1),
        "detectable_errors": np.arange(1.0, size + 1),
        "is_negligible": np.zeros(size, bool),
        "is_zero": np.zeros(size, bool),
        "is_kink": np.zeros(size, bool),
        "tensor_shape": (size,),
    }
    return JudgedEntries(**{**defaults, **{name: np.array(field) for name, field in fields.items()}})


def test_the_outcome_of_an_element_is_the_worst_over_the_sources():
    judged = make_entries({"a": [AGREES, WRONG, AGREES], "b": [AGREES, UNCERTAIN, UNCERTAIN]})
    verdict = assemble_elementwise_verdict(judged, explain)
    assert verdict.outcome == Outcome.FAIL
    assert verdict.outcome_counts == {Outcome.PASS: 1, Outcome.INCONCLUSIVE: 1, Outcome.FAIL: 1}
    assert verdict.reason == "1 of 3 elements of the a gradient: EXCEEDS_ALLOWED_ERROR at [1]. Mend it."


def test_a_reason_names_every_source_that_led_to_the_outcome():
    judged = make_entries({"a": [UNCERTAIN, AGREES], "b": [UNCERTAIN, UNCERTAIN]})
    assert assemble_elementwise_verdict(judged, explain).reason == (
        "1 of 2 elements of the a gradient: TOO_UNCERTAIN at [0]. Mend it. "
        "2 of 2 elements of the b gradient: TOO_UNCERTAIN at [0, 1]. Mend it."
    )
    passing = assemble_elementwise_verdict(make_entries({"a": [AGREES]}), explain)
    assert passing.reason.startswith("Every element ")


@pytest.mark.parametrize("mask", ["is_negligible", "is_zero", "is_kink"])
def test_the_promise_covers_passing_elements_that_no_mask_takes_out(mask):
    causes = {"a": [AGREES, AGREES, AGREES, WRONG]}
    assert assemble_elementwise_verdict(make_entries(causes), explain).smallest_detectable_error == 3
    masked = assemble_elementwise_verdict(make_entries(causes, **{mask: [False, False, True, False]}), explain)
    assert masked.smallest_detectable_error == 2
    nothing = assemble_elementwise_verdict(make_entries(causes, **{mask: [True] * 4}), explain)
    assert nothing.smallest_detectable_error == np.inf
    assert (nothing.negligible_count, nothing.kink_count) == (3 * (mask == "is_negligible"), 3 * (mask == "is_kink"))
    assert nothing.zero_tolerance == (0.1 if mask == "is_zero" else None)


def test_sample_counts_unexamined_elements_and_reports_tensor_indices():
    judged = make_entries({"a": [AGREES, WRONG]}, {"a": np.array([1.0, 1.5])}, flat_indices=[1, 5])
    verdict = assemble_elementwise_verdict(dataclasses.replace(judged, tensor_shape=(2, 3)), explain)
    assert (verdict.element_count, verdict.unexamined_count) == (6, 4)
    assert verdict.detection_limit == SampleMissRate(1, 1 - 2 / 6)
    assert [worst.index for worst in verdict.worst_elements] == [(1, 2), (0, 1)]
    assert verdict.worst_elements[0].error_ratio == pytest.approx(5)


def test_worst_elements_put_failures_then_nan_then_ratio_first():
    values = np.array([1.0, 1.2, np.nan, 1.1, 1.4])
    judged = make_entries({"a": [AGREES, WRONG, WRONG, AGREES, UNCERTAIN]}, {"a": values})
    worst = assemble_elementwise_verdict(judged, explain).worst_elements
    assert [result.index[0] for result in worst] == [2, 1, 4, 3, 0]
    assert worst[-1].error_ratio == 0
    many = make_entries({"a": [WRONG] * 30})
    assert len(assemble_elementwise_verdict(many, explain).worst_elements) == MAX_WORST_ELEMENTS


def test_error_with_zero_allowance_has_infinite_ratio():
    judged = make_entries({"a": [WRONG, AGREES]}, {"a": np.array([2.0, 1.0])}, allowed_error=[0.0, 0.0])
    assert [result.error_ratio for result in list_results(judged)] == [np.inf, 0]


def test_listed_result_is_of_the_worst_source():
    judged = make_entries(
        {"a": [AGREES, WRONG, AGREES], "b": [UNCERTAIN, AGREES, AGREES]},
        {"a": np.array([1.0, 1.2, 1.01]), "b": np.array([1.0, 9.0, 1.02])},
    )
    results = list_results(judged)
    assert [result.source for result in results] == ["b", "a", "b"]
    assert [result.index for result in results] == [(0,), (1,), (2,)]


def test_along_directions_no_element_counts():
    judged = make_entries({"a": [AGREES, AGREES]}, is_directional=True, is_negligible=[True, True])
    judged = dataclasses.replace(judged, tensor_shape=(3, 4), is_directional=True)
    limit = NormDetectionLimit(1e-3, 1e-4)
    verdict = assemble_directional_verdict(judged, limit, 1e-3, explain)
    assert verdict.outcome == Outcome.PASS
    assert verdict.reason.startswith("Every direction ")
    assert (verdict.element_count, verdict.unexamined_count, verdict.negligible_count) == (12, 12, 0)
    assert not any(verdict.outcome_counts.values())
    assert (verdict.worst_elements, verdict.detection_limit) == ((), limit)
    assert [result.index for result in verdict.direction_results] == [(0,), (1,)]


def test_fail_prevails_over_inconclusive_and_that_over_pass():
    assert combine_outcomes([Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE]) == Outcome.FAIL
