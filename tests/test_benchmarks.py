"""What is said of speed was measured, and what is measured is what is said. How long anything takes is no test."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import alarm_tables, diagnosis, kept, load, reference, tables, wire
from benchmarks.checkers import CHECKERS
from benchmarks.growth import exponent
from benchmarks.measuring import Contender, OutOfTimeError, Patience, at_most, in_turns, warm
from benchmarks.models import LOSSES
from benchmarks.peers import PEERS, Ready, by_reverse_mode, torch_inputs
from benchmarks.problems import Problem, convolution, perceptron
from benchmarks.problems import reference as example
from tests.alarms import by_torch, cells

RENDERED: Mapping[str, tuple[Callable[[Any], str], Callable[[Any], str]]] = {
    "reference": (reference.markdown, reference.markdown),
    "diagnosis": (diagnosis.markdown, diagnosis.markdown),
    "wire": (wire.markdown, wire.markdown),
    "finite_differences": (tables.whole, tables.speed),
    "false_alarms": (alarm_tables.markdown, alarm_tables.markdown),
    "load": (load.markdown, load.markdown),
}


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads((kept.RESULTS / "finite_differences.json").read_text())


@pytest.mark.parametrize("name", RENDERED)
def test_the_speed_that_is_quoted_was_measured(name: str) -> None:
    whole, quoted = RENDERED[name]
    found = json.loads((kept.RESULTS / f"{name}.json").read_text())
    assert (kept.RESULTS / f"{name}.md").read_text() == whole(found)
    assert kept.marked(name, kept.README.read_text()) == quoted(found)


def test_a_figure_that_was_changed_by_hand_is_seen(document: dict[str, Any]) -> None:
    document["problems"]["S1"]["rows"]["adaptive"]["seconds"] *= 2
    assert kept.marked("finite_differences", kept.README.read_text()) != tables.speed(document)


def test_tables_fit_a_terminal(document: dict[str, Any]) -> None:
    assert max(map(len, tables.whole(document).splitlines())) < 120


def test_a_target_is_met_at_itself_and_missed_below(document: dict[str, Any]) -> None:
    rows = document["problems"]["S1"]["rows"]
    rows[tables.TORCH_SLOW]["seconds"], rows["central"]["seconds"] = 50.0, 1.0
    assert "50x, met" in tables.speed(document)
    rows["central"]["seconds"] = 1.001
    assert "50x, missed" in tables.speed(document)


def test_nearly_all_is_not_all(document: dict[str, Any]) -> None:
    document["problems"]["S1"]["rows"]["adaptive"]["decided"] = 0.999899
    assert "99.989 %" in tables.speed(document)
    assert "99.99 %, missed" in tables.speed(document)


@pytest.mark.parametrize("problem", [example(), convolution("small", 6, 3), perceptron()], ids=lambda each: each.name)
def test_a_problem_is_the_same_function_for_all(problem: Problem) -> None:
    truth = by_reverse_mode(problem.by_torch, torch_inputs(problem))
    assert problem.loss_of(problem.flat) == pytest.approx(problem.by_torch(*torch_inputs(problem)).item(), rel=1e-13)
    step = 1e-6 * np.random.default_rng(0).normal(size=truth.size)
    change = problem.loss_of(problem.flat + step) - problem.loss_of(problem.flat - step)
    assert change == pytest.approx(2 * truth @ step, rel=1e-6)


def test_the_structure_is_that_of_the_terms() -> None:
    problem = convolution("small", 5, 2)
    assert problem.structure is not None
    felt = [problem.terms_of(problem.flat + unit) != problem.terms_of(problem.flat) for unit in np.eye(45)]
    np.testing.assert_array_equal(np.array(felt).T, problem.structure().toarray() != 0)


@pytest.mark.parametrize("row", [row for row in PEERS if not row.startswith(("numdifftools", "jax"))])
def test_a_peer_finds_the_gradient(row: str) -> None:
    problem = convolution("small", 6, 3)
    ready: Ready = PEERS[row](problem)
    found = ready.gradient(ready.run())
    truth = by_reverse_mode(problem.by_torch, torch_inputs(problem))
    assert found is None or np.abs(found - truth).max() < 1e-7


@pytest.mark.parametrize("dtype", wire.DTYPES)
@pytest.mark.parametrize("name", wire.FORMS)
def test_a_form_carries_the_same_numbers(name: str, dtype: str) -> None:
    contender = wire.contender(wire.FORMS[name], dtype, 1000)
    contender.turn()
    assert contender.finish()["bytes"] > 1000 * wire.BY_ANY_NAME[dtype].stored.itemsize


def test_those_of_few_turns_are_spread_among_those_of_many() -> None:
    order: list[str] = []
    contenders = [
        Contender(lambda name=name: order.append(name) or {name: 0.0}, dict, repeats=repeats)
        for name, repeats in (("many", 6), ("few", 2))
    ]
    in_turns(contenders)
    assert order == ["many"] * 3 + ["few"] + ["many"] * 3 + ["few"]


def test_one_that_takes_too_long_is_stopped() -> None:
    def forever() -> Mapping[str, float]:
        while True:
            pass

    with pytest.raises(OutOfTimeError), at_most(0.01):
        forever()


def test_one_is_warm_before_it_counts() -> None:
    contender = Contender(lambda: {"row": 1.0}, dict)
    warm(contender, Patience(1.0, 3, 20))
    assert (contender.samples, contender.repeats) == ([], 20)


def test_theexponent_is_the_slope_of_what_is_large() -> None:
    rows = [{"size": size, "elements": size**2, "seconds": max(1e-2, 1e-6 * size**3)} for size in (8, 64, 128, 256)]
    assert exponent(rows) == pytest.approx(1.5)
    assert exponent(rows[:2]) is None


@pytest.mark.parametrize("model", LOSSES)
def test_a_model_is_the_same_for_all_checkers(model: str) -> None:
    leaves = cells.problem(model, "ordinary", 0)[1]
    expected = by_torch.LOSSES[model](by_torch.tensors(leaves, torch.float64)).item()
    assert float(LOSSES[model](np, leaves)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", [name for name in CHECKERS if name.startswith(("torch", "scipy"))])
def test_a_checker_accepts_what_is_right_and_refuses_what_is_planted(name: str) -> None:
    leaves = cells.problem("mlp", "ordinary", 0)[1]
    masks = {name: np.ones(leaf.shape) for name, leaf in leaves.items() if name != "y"}
    assert CHECKERS[name]("mlp", leaves, masks, "float64")
    masks["w_head"][1, 2] = -1
    assert not CHECKERS[name]("mlp", leaves, masks, "float64")


def test_what_was_counted_is_shown() -> None:
    counted = json.loads((kept.RESULTS / "false_alarms.json").read_text())
    counted["cells"]["mlp, inputs"]["ours"]["counts"]["FP32"]["misses"] = 13
    counted["cells"]["mlp, inputs"]["ours"]["counts"]["TF32"] = {"correct": 7, "alarms": 0, "wrong": 28, "misses": 5}
    counted["cells"]["mlp, inputs"]["ours"]["decided"]["BF16"] = 0.99999
    shown = alarm_tables.markdown(counted)
    assert all(each in shown for each in ("13/400", " 5/28 ", " 0/7 ", "99.9 %"))
