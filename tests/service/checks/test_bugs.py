"""Bugs that are planted: a check of what they make fails, and names them."""

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.bugs import list_bugs, simulate_bugs
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from service.numerics.diagnosis.inject import inject_bugs
from service.numerics.model.presets import PRESETS
from tests.service.checks.common.counting_clock import end_time_after_looks

NAMES = [entry["name"] for entry in list_bugs()["bugs"]]
SMALL = ["conv_tanh_scale_sigmoid", "logistic_regression", "mlp_classifier"]


def list_bug_names(body):
    return list(dict.fromkeys(bug["name"] for bug in simulate_bugs(body)["bugs"]))


def collect_errors(body, limits=None):
    with pytest.raises(InvalidRequestError) as caught:
        simulate_bugs(body, limits)
    return {error["pointer"]: error["detail"] for error in caught.value.errors}


def test_the_catalogue_has_each_bug_once_and_says_what_it_is():
    assert len(set(NAMES)) == len(NAMES) > 40
    assert all(bug["explanation"] for bug in list_bugs()["bugs"])
    assert "unknown" not in NAMES


@pytest.mark.parametrize("preset", PRESETS)
def test_possible_bugs_are_listed_without_gradients(preset):
    listed = simulate_bugs(PRESETS[preset].example_request)["bugs"]
    assert {bug["name"] for bug in listed} <= set(NAMES)
    assert {bug["tensor"] for bug in listed} <= set(PRESETS[preset].example_request["weights"])
    assert all("candidate" not in bug for bug in listed)
    assert len({(bug["name"], bug["explanation"]) for bug in listed}) == len(listed)


@pytest.mark.no_cover
@pytest.mark.parametrize("preset", SMALL)
def test_check_of_a_planted_bug_names_it(preset):
    body = PRESETS[preset].example_request
    for name in list_bug_names(body):
        for bug in simulate_bugs(body | {"bug": name})["bugs"]:
            assert bug["name"] == name
            assert bug["tensor"] == next(iter(bug["candidate"]))
            report = check(body | {"candidate": to_wire(bug["candidate"])})
            for tensor in bug["candidate"]:
                verdict = report["verdicts"][tensor]
                assert verdict["outcome"] == "fail"
                assert name in [diagnosis["name"] for diagnosis in verdict["diagnoses"]]


def to_wire(candidate):
    return {name: array if isinstance(array, float | list) else array.tolist() for name, array in candidate.items()}


def test_gradient_without_planted_bug_passes(example):
    """A negative control of the test above."""
    report = check(example)
    right = {name: to_wire(gradient)["analytic"] for name, gradient in report["gradients"].items()}
    assert check(example | {"candidate": right})["outcome"] == "pass"


def test_the_same_request_has_the_same_answer(example):
    body = example | {"bug": "transposed", "encoding": "b64"}
    assert simulate_bugs(body) == simulate_bugs(body)
    assert set(simulate_bugs(body)["bugs"][0]["candidate"]["w1"]) == {"datatype", "shape", "b64"}


def test_a_candidate_in_the_request_changes_nothing(example):
    own = example | {"candidate": {"w1": [[1, 2], [3, 4]]}}
    assert simulate_bugs(own) == simulate_bugs(example)


def test_a_bug_that_there_is_not_is_refused_with_the_one_that_may_be_meant(example):
    assert "did you mean 'transposed'?" in collect_errors(example | {"bug": "transpose"})["/bug"]


def test_a_bug_that_this_model_cannot_have_is_refused_with_those_that_it_can(example):
    detail = collect_errors(example | {"bug": "missing_mean_path"})["/bug"]
    assert detail.startswith("'missing_mean_path' cannot be made in this model")
    assert detail.endswith(", ".join(list_bug_names(example)))


def test_a_bug_that_a_check_would_not_fail_is_refused(example):
    body = example | {"tolerance": {"rtol": 10}}
    assert "would not be told" in collect_errors(body | {"bug": "sign_flipped"})["/bug"]


@pytest.mark.parametrize("limits", [Limits(work=1000), Limits(elements=20), Limits(bytes=1000)])
def test_request_over_a_limit_is_refused(example, limits):
    assert collect_errors(example, limits)


def test_answer_holds_no_more_numbers_than_a_model_may(example):
    body = example | {"bug": "detached", "with_respect_to": ["x", "w1", "w2"]}
    everything, few = (simulate_bugs(body, Limits(elements=elements))["bugs"] for elements in (1000, 50))
    assert len(everything) > len(few) > 0


@pytest.mark.parametrize("bug", [None, "sign_flipped"])
def test_simulation_of_bugs_has_a_deadline(monkeypatch, example, bug):
    """The differences do, and what is planted does not."""

    def inject_slowly(*given):
        for bug in inject_bugs(*given):
            ticking.look_count += 1000
            yield bug

    monkeypatch.setattr("service.checks.bugs.inject_bugs", inject_slowly)
    with end_time_after_looks(900) as ticking:
        detail = collect_errors(example | ({"bug": bug} if bug else {}), Limits())["/with_respect_to"]
    assert detail.startswith("out of time: bugs were being planted when the limit of 900 s was reached. Name fewer")
