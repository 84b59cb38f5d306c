"""The emulated kernels of `benchmarks/low_precision.py`, against PyTorch in float64, and the service's verdicts."""

import dataclasses

import numpy as np
import pytest
import torch

import gradcheckd
from benchmarks import low_precision, low_precision_diagnosis, low_precision_tables
from benchmarks.low_precision_counts import count_trials, list_exceptions
from benchmarks.low_precision_formats import (
    FORMATS,
    Machine,
    keep,
    quantise_to_e4m3,
    round_to_bfloat16,
    round_to_tf32,
)
from benchmarks.low_precision_kernels import ACCUMULATED_NARROWLY
from benchmarks.low_precision_presets import NARROW_DTYPES, count_preset_outcomes
from benchmarks.low_precision_rules import RULES
from benchmarks.low_precision_trials import KERNELS, ONE_ELEMENT, RIGHT, SCALED, Bench, run_trials, to_arrays

BY_NAME = {kernel.name: kernel for kernel in KERNELS}
LARGEST_ERROR = {"FP32": 1e-5, "TF32": 5e-3, "FP16": 1e-2, "BF16": 5e-2, "FP8_E4M3": 5e-2}


def measure_error(gradients, exact):
    """The largest error by the norm of one tensor."""
    return max(float((gradients[name].double() - exact[name]).norm() / exact[name].norm()) for name in exact)


@pytest.mark.parametrize("arithmetic", FORMATS)
@pytest.mark.parametrize("name", BY_NAME)
def test_a_right_kernel_is_off_by_rounding_alone(name, arithmetic):
    for seed in range(3):
        bench = Bench(BY_NAME[name], FORMATS[arithmetic], seed)
        assert measure_error(bench.run(None), bench.exact) < LARGEST_ERROR[arithmetic]


@pytest.mark.parametrize("name", BY_NAME)
def test_each_bug_is_beyond_rounding_at_some_point(name):
    for bug in BY_NAME[name].bugs:
        benches = [Bench(BY_NAME[name], FORMATS["FP32"], seed) for seed in range(4)]
        assert any(bench.is_beyond_rounding(bench.run(bug), bench.run(None)) for bench in benches), bug
    assert not any(bench.is_beyond_rounding(bench.run(None), bench.run(None)) for bench in benches)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_problem_is_judged_as_by_a_check(name):
    bench = Bench(BY_NAME[name], FORMATS["BF16"], 4)
    for gradients in (bench.run(None), bench.plant_elements(bench.run(None))):
        report = gradcheckd.check(
            tensors=to_arrays(bench.problem.tensors),
            weights=to_arrays(bench.problem.weights),
            model=bench.model,
            candidate=to_arrays(gradients),
            candidate_dtype=bench.recipe,
            include=[],
        )
        outcomes = {name: str(report.verdicts[name].outcome) for name in gradients}
        assert bench.judge(RIGHT, gradients, bench.recipe).outcomes == outcomes


def test_right_kernels_pass_and_wrong_ones_fail():
    trials = [trial for kernel in KERNELS for trial in run_trials("BF16", kernel, 7)]
    assert list_exceptions(trials) == []
    assert {trial.outcome for trial in trials if trial.kind == RIGHT} == {"pass"}


def test_what_is_mistaken_is_listed_and_counted():
    (right, *_, wrong) = (trial for trial in run_trials("FP32", BY_NAME["RoPE"], 1))
    refused = dataclasses.replace(right, outcomes={"x": "fail"})
    missed = dataclasses.replace(wrong, outcomes={"x": "pass"}, kind=ONE_ELEMENT)
    assert [entry["kind"] for entry in list_exceptions([right, refused, missed])] == [RIGHT, ONE_ELEMENT]
    hidden = dataclasses.replace(wrong, is_beyond_rounding=False, outcomes={"x": "pass"}, kind="sign of the sine")
    assert list_exceptions([hidden]) == []
    counts = count_trials([right, refused, hidden])["FP32"]["RoPE"]
    assert counts[RIGHT]["outcomes"] == {"pass": 1, "fail": 1, "inconclusive": 0}
    assert counts["sign of the sine (within rounding)"]["gradients"] == 1


def test_formats_round_as_pytorch_and_the_hardware_do():
    numbers = torch.tensor(np.random.default_rng(0).normal(size=1000), dtype=torch.float32)
    rounded = round_to_tf32(numbers).double()
    assert ((rounded - numbers.double()).abs() <= 2.0**-11 * numbers.double().abs()).all()
    significands = torch.frexp(rounded).mantissa * 2**11
    assert (significands == significands.round()).all()
    assert round_to_tf32(torch.tensor([1 + 2.0**-11])).item() == 1 + 2.0**-10
    quantised = quantise_to_e4m3(numbers)
    assert quantised.abs().max() == numbers.abs().max()
    assert len(quantised.unique()) < 254
    assert not quantise_to_e4m3(torch.zeros(2)).any()


def test_a_sum_by_blocks_has_every_term_once_and_a_lost_block_not():
    machine = Machine(FORMATS["FP32"], np.random.default_rng(0))
    ones = torch.ones(3, 37)
    for _ in range(20):
        assert (machine.sum(ones, 1) == 37).all()
        assert (machine.matmul(ones, ones.T) == 37).all()
        assert (machine.sum(ones, 1, loses_block=True) == 27).all()
    narrow = Machine(FORMATS["FP32"], np.random.default_rng(0), accumulate=round_to_bfloat16)
    assert machine.accumulate is keep
    assert (narrow.sum(torch.full((1, 300), 1.01), 1) != machine.sum(torch.full((1, 300), 1.01), 1)).all()


def test_the_other_rules_accept_what_is_near_and_no_more():
    right = torch.linspace(1, 2, 9, dtype=torch.float64)
    assert all(rule(right, right, right) for rule in RULES.values())
    assert not any(rule(right * 1.1, right, right) for rule in RULES.values())


def test_a_short_run_measures_all_arithmetics_and_tables_show_what_was_missed(monkeypatch):
    monkeypatch.setattr(low_precision, "measure_time_ratio", lambda arithmetic, seed: 2.0)
    document = low_precision.measure_document(3, kernels=1)
    assert list(document["arithmetics"]) == list(FORMATS)
    shown = low_precision_tables.write_markdown(document)
    assert "2x" in shown
    for kernels in document["arithmetics"].values():
        for counts in kernels.values():
            counts[RIGHT]["tensors"] = {"pass": 1, "fail": 0, "inconclusive": 1}
    shown = low_precision_tables.write_markdown(document)
    assert "50 % (1/2), missed: 99.5 %" in shown


@pytest.mark.parametrize("dtype", NARROW_DTYPES)
def test_own_gradients_of_the_presets_pass_in_narrow_dtypes(dtype):
    counts = count_preset_outcomes(dtype)
    assert counts["fail"] == 0
    assert counts["pass"] >= 0.93 * sum(counts.values())


def test_errors_below_the_smallest_numbers_are_counted_apart():
    bench = Bench(BY_NAME["RoPE"], FORMATS["FP16"], 3)
    assert bench.find_resolved(SCALED) == bench.find_resolved(ONE_ELEMENT) == {"x"}
    bench.exact = {name: exact / exact.abs().max() * 4e-6 for name, exact in bench.exact.items()}
    assert bench.find_resolved(SCALED) == set()
    bench.exact = {name: exact * 2**-8 for name, exact in bench.exact.items()}
    assert bench.find_resolved(ONE_ELEMENT) == set()


def test_names_of_bugs_are_counted_where_none_adds_up_narrowly() -> None:
    document = low_precision_diagnosis.measure_document(70000, kernels=2)
    narrow = [counts.get(ACCUMULATED_NARROWLY) for counts in document["arithmetics"].values()]
    assert None in narrow
    assert any(narrow)
    rows = low_precision_diagnosis.write_markdown(document).splitlines()[2:7]
    assert [row.split("|")[1].strip() for row in rows] == list(document["arithmetics"])
    assert [row.split("|")[3].strip() == "-" for row in rows] == [counts is None for counts in narrow]
