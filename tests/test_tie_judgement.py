"""At ties valid choices of subgradients never fail, and what no choice explains never passes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from schemas.datatype import Array
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.judge import Judge
from service.checks.graph.problem import Problem, build_problem
from service.numerics import ties
from service.numerics.core.recipe import EAGER_RECIPES
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.gradients.sources import ANALYTIC, AUTOGRAD
from service.numerics.ties import TiePoint
from service.numerics.verdict.outcome import Outcome
from tests.tied_graphs import TIE_KINDS, draw_choice, draw_tied_request

# What lines this runs others count.
pytestmark = pytest.mark.no_cover

_OF_EACH = 5


def iterate_judged_problems(
    kinds: tuple[str, ...], seed: int
) -> Iterator[tuple[str, Problem, Judge, TiePoint, np.random.Generator]]:
    """Random models with ties, differentiated once each."""
    generator = np.random.default_rng(seed)
    while True:
        kind, body = draw_tied_request(generator, kinds)
        problem = build_problem(model_language.parse_check_request(body))
        point = ties.find_tie_point(problem.graph, problem.float64_leaves, [EAGER_RECIPES["FP64"]], 0, 2**16)
        if not point.choices_by_node:
            continue
        routes = GradientSources(
            {
                ANALYTIC: analytic.differentiate_analytically(problem.graph, problem.leaves),
                AUTOGRAD: autograd.differentiate_by_torch(problem.graph, problem.leaves, problem.reported_names),
            },
            finite_difference.differentiate_numerically(problem.graph, problem.float64_leaves, problem.names),
        )
        yield kind, problem, Judge(problem, routes), point, generator


def find_outcome(judge: Judge, candidate: dict[str, Array], datatype: str | None = None) -> Outcome:
    other = judge.with_candidate(candidate, datatype)
    return max(other.verdict(name).outcome for name in candidate)


def draw_valid_gradients(point: TiePoint, names: Any, generator: np.random.Generator) -> dict[str, Array]:
    weights = {name: draw_choice(generator, choice) for name, choice in point.choices_by_node.items()}
    gradients = point.compute_gradients_by_weights(weights)
    return {name: gradients[name][0] for name in names}


@pytest.mark.long
@pytest.mark.parametrize(("datatype", "narrow"), [(None, np.float64), ("FP32", np.float32)])
def test_valid_choices_never_fail_and_most_pass(datatype: str | None, narrow: Any) -> None:
    counts: Counter[Outcome] = Counter()
    models = iterate_judged_problems(TIE_KINDS, 1)
    with np.errstate(all="ignore"):
        while counts.total() < 500:
            _, problem, judge, point, generator = next(models)
            for _ in range(_OF_EACH):
                candidate = draw_valid_gradients(point, problem.names, generator)
                counts[
                    find_outcome(judge, {name: narrow(gradient) for name, gradient in candidate.items()}, datatype)
                ] += 1
    assert counts[Outcome.FAIL] == 0
    assert counts[Outcome.PASS] >= 425


def draw_between_sides(judge: Judge, problem: Problem, generator: np.random.Generator) -> dict[str, Array] | None:
    """A candidate whose elements lie each within its own one-sided derivatives; None where there is no kink."""
    candidate: dict[str, Array] = {}
    any_kink, way = False, int(generator.integers(3))
    for name in problem.names:
        reference = judge._references.build_reference(name, EAGER_RECIPES["FP64"])
        candidate[name] = judge._routes.compute_own_gradients(name)[ANALYTIC].copy()
        if reference.left_derivative is None or reference.right_derivative is None:
            continue
        low, high = (
            np.fmin(reference.left_derivative, reference.right_derivative),
            np.fmax(reference.left_derivative, reference.right_derivative),
        )
        drawn = (generator.uniform(np.nan_to_num(low), np.nan_to_num(high)), low, high)[way]
        at = reference.is_kink & (generator.random(low.shape) < 0.8)
        candidate[name] = np.where(at, drawn, candidate[name])
        any_kink |= bool(at.any())
    return candidate if any_kink else None


def compute_distance(point: TiePoint, candidate: dict[str, Array]) -> float:
    """How far a candidate is from every choice, at least, by a linear program: of a ball a box stands around it."""
    nothing = {name: np.zeros((1, choice.alternative_count)) for name, choice in point.choices_by_node.items()}

    def flatten(gradients: Any) -> Array:
        return np.concatenate([gradients[name].ravel() for name in candidate])

    base = flatten(point.compute_gradients_by_weights(nothing))
    columns, bounds, sets = [], [], []
    for name, choice in point.choices_by_node.items():
        for number in range(choice.alternative_count):
            weights = nothing | {name: np.eye(1, choice.alternative_count, number)}
            columns.append(flatten(point.compute_gradients_by_weights(weights)) - base)
            bounds.append((0 if choice.ball_order is None else -1, 1))
            sets.append((name, int(choice.units[number]), choice.ball_order))
    v, right = np.array(columns).T, flatten(candidate) - base
    simplices = sorted({simplex_set[:2] for simplex_set in sets if simplex_set[2] is None})
    sums = [[float(simplex_set[:2] == simplex) for simplex_set in sets] + [0.0] for simplex in simplices]
    ones = np.ones((len(v), 1))
    return linprog(
        np.append(np.zeros(len(sets)), 1),
        np.block([[v, -ones], [-v, -ones]]),
        np.concatenate([right, -right]),
        sums or None,
        np.ones(len(sums)) if sums else None,
        [*bounds, (0, None)],
    ).fun


def test_gradient_that_no_choice_explains_never_passes() -> None:
    """By a linear program: off by 1e-3 at least, where 1e-11 would be a hundred allowances."""
    counts: Counter[Outcome] = Counter()
    models = iterate_judged_problems(tuple(kind for kind in TIE_KINDS if kind != "nested"), 2)
    with np.errstate(all="ignore"):
        while counts.total() < 500:
            _, problem, judge, point, generator = next(models)
            for _ in range(2 * _OF_EACH):
                candidate = draw_between_sides(judge, problem, generator)
                if candidate is not None and compute_distance(point, candidate) > 1e-3:
                    counts[find_outcome(judge, candidate)] += 1
    assert counts[Outcome.PASS] == 0
    assert counts[Outcome.FAIL] >= 450


CONVENTIONS: list[tuple[str, list[Any], dict[str, Any], list[Any], list[list[float]]]] = [
    ("amax", [[2.0, 2.0, 2.0, 1.0]], {}, [3.0], [[3, 0, 0, 0], [0, 0, 3, 0], [1, 1, 1, 0]]),
    ("relu", [[0.0, 1.0]], {}, [1.0, 2.0], [[0, 2], [1, 2], [0.5, 2]]),
    ("abs", [[0.0, -1.0]], {}, [1.0, 2.0], [[0, -2], [1, -2], [-1, -2]]),
    ("clamp", [[0.0, 0.5]], {"min": 0.0}, [1.0, 2.0], [[0, 2], [1, 2], [0.5, 2]]),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "upstream", "candidates"), CONVENTIONS)
def test_known_conventions_pass(op: str, inputs: Any, attributes: Any, upstream: Any, candidates: Any) -> None:
    for candidate in candidates:
        assert check_tied_op(op, inputs, attributes, upstream, [candidate])["outcome"] == "pass", candidate


AT_TIES = [
    ("amax", [[2.0, 2.0, 1.5, 1.0]], {}, 3.0, [[3.0, 3.0, 0.0, 0.0]], "to_every_element"),
    ("max_pool2d", [[[[3.0, 3.0, 1.0, 5.0], [2.0, 3.0, 0.0, 4.0]]]], {"kernel_size": 2}, [[[1.7, 0.3]]],
     [[[[1.7, 1.7, 0.0, 0.3], [0.0, 1.7, 0.0, 0.0]]]], "to_every_element"),
    ("maximum", [[1.0, 2.0, 5.0], [1.0, 3.0, 4.0]], {}, [1.1, 2.3, 0.7], [[1.1, 0.0, 0.7], [1.1, 2.3, 0.0]], "to_both"),
    ("minimum", [[1.0, 2.0, 5.0], [1.0, 3.0, 4.0]], {}, [1.1, 2.3, 0.7], [[1.1, 2.3, 0.0], [1.1, 0.0, 0.7]], "to_both"),
    ("l1_loss", [[1.0, 2.0, 4.0], [1.0, 0.0, 5.0]], {"reduction": "sum"}, 1.3,
     [[1.3, 1.3, -1.3], [1.3, -1.3, 1.3]], "to_both"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes", "upstream", "candidate", "fault"), AT_TIES)
def test_bugs_that_show_at_ties_alone_fail_and_are_named(
    op: str, inputs: Any, attributes: Any, upstream: Any, candidate: Any, fault: str
) -> None:
    report = check_tied_op(op, inputs, attributes, upstream, candidate)
    assert report["outcome"] == "fail"
    failed = [verdict for verdict in report["verdicts"].values() if verdict["outcome"] == "fail"]
    assert all("no single choice of subgradient" in verdict["reason"] for verdict in failed)
    assert all(fault in {bug["name"] for bug in verdict["diagnoses"]} for verdict in failed)


def check_tied_op(op: str, inputs: Any, attributes: Any, upstream: Any, candidate: Any) -> Any:
    names = ["x", "y"][: len(inputs)]
    nodes = [
        {"name": "a", "op": op, "inputs": names, **attributes},
        {"name": "b", "op": "mul", "inputs": ["a", "up"]},
        {"name": "loss", "op": "sum", "inputs": ["b"]},
    ]
    body = {
        "tensors": {
            "up": upstream if len(np.shape(upstream)) == 0 or len(upstream) > 1 or op != "amax" else upstream[0]
        },
        "weights": dict(zip(names, inputs, strict=True)),
        "model": {"nodes": nodes},
        "candidate": dict(zip(names, candidate, strict=True)),
        "include": [],
    }
    return check(body)


def test_directional_error_at_a_smooth_point_does_not_pass() -> None:
    """relu(x) - relu(-x) is x: both sides of 0 have the derivative 1, the piece that the point counts to has 0."""
    nodes = [
        {"name": "a", "op": "relu", "inputs": ["x"]},
        {"name": "minus", "op": "neg", "inputs": ["x"]},
        {"name": "b", "op": "relu", "inputs": ["minus"]},
        {"name": "d", "op": "sub", "inputs": ["a", "b"]},
        {"name": "loss", "op": "sum", "inputs": ["d"]},
    ]

    def check_projections(first: float, count: int, seed: int) -> str:
        body = {
            "tensors": {},
            "weights": {"x": [0.0, 1.0, -1.0]},
            "model": {"nodes": nodes},
            "candidate": {"x": [first, 1.0, 1.0]},
            "finite_difference": {"projections": count},
            "seed": seed,
        }
        return check(body)["outcome"]

    for count, seed in ((1, 0), (3, 1), (5, 2)):
        assert [check_projections(first, count, seed) for first in (0.2, 0.6, 1.7)] == ["inconclusive"] * 3
        assert check_projections(1.0, count, seed) == "pass", "a negative control"
