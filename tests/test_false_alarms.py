"""No correct gradient fails and no wrong one passes: a hundred problems of each cell, on fixed seeds.

Arithmetics narrower than float32 have every fourth problem. `make alarms` measures the same, and these on all problems,
on fresh seeds, beside other checkers.
"""

from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest

from service.checks.graph import references
from service.checks.graph.check import check
from service.numerics.model.rounding import Allowances
from service.numerics.verdict.outcome import Outcome
from tests.alarms import judged_cells, numpy_gradients, torch_gradients
from tests.alarms.arithmetic import BF16, TF32, Arithmetic, round_to_float16
from tests.alarms.planted_errors import ERROR_KINDS, MATTERING_FRACTION, plant_errors
from tests.alarms.problem_cells import CELLS, MODELS, NARROW_SOURCES, WIDE_SOURCES, draw_problem

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

PROBLEMS = 100
ORDINARY = 0.95
FEW = 10


def judge_cell(model, variant, problems=PROBLEMS, **fields):
    return [
        tensor
        for seed in range(problems)
        for tensor in judged_cells.judge_problem(model, variant, seed, narrow=seed % 4 == 0, **fields)
    ]


@pytest.mark.parametrize(("model", "variant"), CELLS)
def test_no_correct_gradient_fails_and_no_wrong_one_passes(model, variant):
    tensors = judge_cell(model, variant)
    assert [str(alarm) for alarm in judged_cells.find_alarms(tensors)] == []
    assert [str(miss) for miss in judged_cells.find_misses(tensors)] == []
    for source in map(str, WIDE_SOURCES) if variant == "ordinary" else ():
        assert judged_cells.compute_passing_fraction(tensors, source) >= ORDINARY, source
    judged = Counter(tensor.source for tensor in tensors if tensor.kind is None)
    # What is beyond the range of float16 is left out: never so much that nothing is looked at.
    least = {"BF16": 1 / 4, "TF32": 1 / 4, "FP16": 1 / 16}
    for source in (*WIDE_SOURCES, *NARROW_SOURCES):
        assert judged[str(source)] >= least.get(source.arithmetic, 1) * judged["FP64 by torch"], source
    # Of a few problems no gradient in float64 is more than rounding: there nothing can be wrong.
    wrong = Counter((tensor.source.split()[0], tensor.kind) for tensor in tensors)
    for arithmetic, kind in product(MATTERING_FRACTION, ERROR_KINDS):
        assert wrong[arithmetic, kind] >= 0.95 * least.get(arithmetic, 1) * PROBLEMS


@pytest.mark.parametrize("model", MODELS)
def test_without_an_allowance_for_rounding_correct_ones_would_fail(model, monkeypatch):
    def allow_nothing(graph, leaves, recipe, seed, names):
        return {name: Allowances(np.zeros(graph.shapes[name]), np.inf, np.zeros(graph.shapes[name])) for name in names}

    monkeypatch.setattr(references, "estimate_recipe_allowances", allow_nothing)
    failing = Counter(alarm.source for alarm in judged_cells.find_alarms(judge_cell(model, "ordinary", 2)))
    assert failing.keys() == {str(source) for source in (*WIDE_SOURCES, *NARROW_SOURCES) if source.arithmetic != "FP64"}


def test_within_a_large_tolerance_wrong_ones_would_pass():
    tensors = judge_cell("mlp", "ordinary", FEW, tolerance={"rtol": 10.0, "atol": 1e-3})
    problems = sum(FEW if arithmetic in ("FP64", "FP32") else -(-FEW // 4) for arithmetic in MATTERING_FRACTION)
    assert Counter(miss.kind for miss in judged_cells.find_misses(tensors)) == dict.fromkeys(ERROR_KINDS, problems)


def test_inconclusive_gradient_does_not_count_as_passing():
    tensors = judge_cell("mlp", "ordinary", 1, tolerance={"rtol": 0.0, "atol": 0.0})
    assert (
        judged_cells.compute_passing_fraction(
            [tensor for tensor in tensors if tensor.verdict.outcome != Outcome.PASS], "FP64 by torch"
        )
        == 0
    )
    assert (
        judged_cells.compute_decided_fraction(tensors, "FP64")
        == judged_cells.compute_decided_fraction(tensors, "BF16")
        == 0
    )


def test_decided_gradients_are_counted_by_arithmetic():
    tensors = judge_cell("mlp", "ordinary", 1)
    assert (
        judged_cells.compute_decided_fraction(tensors, "FP64"),
        judged_cells.compute_decided_fraction(tensors, "FP8"),
    ) == (1, None)
    assert judged_cells.compute_decided_fraction(judge_cell("attention", "ordinary", 1), "BF16") < 1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("arithmetic", "least", "most"),
    [
        (partial(Arithmetic, np.float64), 0, 1e-12),
        (partial(Arithmetic, np.float32), 1e-9, 1e-5),
        (partial(Arithmetic, np.float32, round_operand=TF32), 1e-5, 1e-1),
        (partial(Arithmetic, np.float32, round_operand=BF16), 1e-4, 1),
        (partial(Arithmetic, np.float32, round_operand=round_to_float16), 1e-5, 1e-1),
    ],
)
def test_the_second_implementation_is_right_to_its_arithmetic(model, arithmetic, least, most):
    leaves = draw_problem(model, "ordinary", 0)[1]
    exact = torch_gradients.compute_gradients(model, leaves)
    gradients = numpy_gradients.compute_gradients(model, leaves, arithmetic(generator=np.random.default_rng(0)))
    assert gradients.keys() == exact.keys()
    for name, gradient in exact.items():
        assert least <= np.abs(gradients[name] - gradient).max() / np.abs(gradient).max() <= most, name


def test_each_sum_has_an_order_of_its_own():
    terms = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    arithmetic = Arithmetic(np.float32, np.random.default_rng(0))
    assert len({float(arithmetic.total(terms)) for _ in range(20)}) > 5


def test_operands_are_shortened_to_the_nearest():
    ones = np.array([1 + 2**-10, 1 + 2**-11, 1 + 2**-12, -1 - 2**-11], np.float32)
    assert TF32(ones).tolist() == [1 + 2**-10, 1 + 2**-10, 1, -1 - 2**-10]
    assert BF16(ones).tolist() == [1, 1, 1, -1]


def test_an_error_is_planted_where_it_matters_and_nowhere_else():
    gradients = {"v": np.array([1.0, 1e-7, 1e-3, np.pi]), "w": np.zeros(3)}
    extended = {"v": np.array([1.0, 1e-7, 2e-3, np.pi]), "w": np.zeros(3)}
    for seed in range(FEW):
        for error in plant_errors("FP64", gradients, extended, np.random.default_rng(seed)):
            assert (error.name, error.element in (0, 3)) == ("v", True)
            wrong = error.apply(gradients["v"], gradients["v"])
            assert np.flatnonzero(wrong != gradients["v"]).tolist() == [error.element]
            np.testing.assert_allclose(wrong, gradients["v"] * error.make_mask((4,)), rtol=1e-15)


def judge_tiny_gradient(x, gradient):
    """On a gradient of 0.01 mean(tanh(x)), which has none but tiny elements."""
    nodes = [
        {"name": "t", "op": "tanh", "inputs": ["x"]},
        {"name": "m", "op": "mean", "inputs": ["t"]},
        {"name": "loss", "op": "mul", "inputs": ["m", 0.01]},
    ]
    body = {"tensors": {"x": x.tolist()}, "weights": {}, "model": {"nodes": nodes}, "include": []}
    return check(body | {"candidate": {"x": gradient.tolist()}})["outcome"]


def test_zeros_for_a_tiny_gradient_fail():
    x = np.random.default_rng(0).normal(size=4096)
    right = 0.01 * (1 - np.tanh(x) ** 2) / x.size
    assert judge_tiny_gradient(x, np.zeros_like(x)) == "fail"
    assert judge_tiny_gradient(x, right) == "pass"
    assert judge_tiny_gradient(x, 1.0001 * right) == "fail"


def judge_key_bias(gradient):
    """Outcome of a gradient of the bias of an attention's keys: to shift all scores of a row changes no weight."""
    generator = np.random.default_rng(0)
    x, w, query, value, y = (generator.normal(size=(5, 6) if name != "w" else (6, 6)).tolist() for name in "xwqvy")
    nodes = [
        {"name": "key", "op": "linear", "inputs": ["x", "w", "b"]},
        {"name": "out", "op": "scaled_dot_product_attention", "inputs": ["q", "key", "v", None]},
        {"name": "loss", "op": "mse_loss", "inputs": ["out", "y"]},
    ]
    tensors = {"x": x, "w": w, "q": query, "v": value, "y": y}
    body = {"tensors": tensors, "weights": {"b": generator.normal(size=6).tolist()}, "model": {"nodes": nodes}}
    return check(body | {"candidate": {"b": gradient}, "include": []})["outcome"]


def test_a_gradient_that_is_truly_zero_passes_as_zeros_and_nothing_else():
    assert judge_key_bias([0.0] * 6) == "pass"
    assert judge_key_bias([1e-17] * 6) == "pass"
    assert judge_key_bias([1e-9] * 6) == "fail"
