"""The bounds of the differences are true: measured against the truth on every family of problems, on fixed seeds.

`make bounds` measures the same on fresh ones.
"""

import dataclasses
from functools import cache

import mpmath
import numpy as np
import pytest

from service.numerics.gradients import finite_difference
from service.numerics.model.graph import Graph
from service.numerics.ops.activation import sigmoid
from tests import bound_comparison, problem_families, truth

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

ORDINARY = [family for family, variant in problem_families.CELLS if variant == "ordinary"]
ONCE_FALSE = [
    ("mlp", "weights", 1002),  # p = 1 - 1e-55: the loss rounded to 0, and its noise with it
    ("mlp", "weights", 1004),  # terms so different in size that squares of their noise underflowed
    ("transformer", "weights", 1001),  # a factor of a linear op that rounded to 0
    ("softmax", "weights", 1007),  # a factor of a linear op that was off by many units in the last place
    ("softmax", "ordinary", 269820235),  # two entries of a table that agree by chance
    ("transformer", "weights", 1035),  # a table of large steps that settles, where that of smaller ones does not
    ("transformer", "weights", 268928046),  # steps over which attention's scores move by far more than one
    ("transformer", "weights", 269820358),
]
"""Problems with a bound that once was false by more than a factor of ten, and why."""


@cache
def draw_differences(family, variant):
    """Problems of a cell, six hundred elements or more and three problems at least, with differences and truth."""
    cases, elements = [], 0
    while elements < 600 or len(cases) < 3:
        problem = problem_families.draw_problem(family, variant, len(cases))
        differences = finite_difference.differentiate_numerically(
            problem.graph, problem.leaves, problem.names, seed=problem.seed
        )
        cases.append((problem, differences, truth.compute_gradients(problem.graph, problem.leaves)))
        elements += sum(difference.value.size for difference in differences.values())
    return cases


def compare_tensors(family, variant, change=lambda difference: difference):
    """The tensors of a cell held against the truth, with the differences changed."""
    return [
        tensor
        for problem, differences, expected in draw_differences(family, variant)
        for tensor in bound_comparison.compare_to_truth(
            problem, {name: change(difference) for name, difference in differences.items()}, expected
        )
    ]


@pytest.mark.parametrize(("family", "variant"), problem_families.CELLS)
def test_the_bounds_are_true(family, variant):
    tensors = compare_tensors(family, variant)
    summary = bound_comparison.summarize_bounds(tensors)
    assert summary.covered >= 0.999, "\n".join(bound_comparison.describe_misses(tensors, 5))
    assert summary.worst < 10, "\n".join(bound_comparison.describe_misses(tensors, 5))


@pytest.mark.parametrize(("family", "variant", "seed"), ONCE_FALSE)
def test_bounds_that_were_once_false_are_true(family, variant, seed):
    problem = problem_families.draw_problem(family, variant, seed)
    differences = finite_difference.differentiate_numerically(problem.graph, problem.leaves, problem.names, seed=seed)
    tensors = bound_comparison.compare_to_truth(
        problem, differences, truth.compute_gradients(problem.graph, problem.leaves)
    )
    assert bound_comparison.summarize_bounds(tensors).worst < 10, "\n".join(
        bound_comparison.describe_misses(tensors, 5)
    )


@pytest.mark.parametrize("family", ORDINARY)
def test_the_bounds_of_ordinary_problems_are_tight_and_decide(family):
    summary = bound_comparison.summarize_bounds(compare_tensors(family, "ordinary"))
    assert summary.median < 1e-11
    assert summary.unbounded == 0
    assert summary.decided >= 0.999


@pytest.mark.parametrize("family", ORDINARY)
def test_bounds_a_thousandth_as_wide_would_be_caught(family):
    def shrink_bound(difference):
        return dataclasses.replace(difference, error_bound=difference.error_bound / 1e3)

    summary = bound_comparison.summarize_bounds(compare_tensors(family, "ordinary", shrink_bound))
    assert summary.covered < 0.9
    assert summary.worst > 10


@pytest.mark.parametrize("wrong", [0.0, 1.0, np.nan])
def test_a_value_that_is_always_the_same_would_be_caught(wrong):
    def replace_value(difference):
        return dataclasses.replace(difference, value=np.full_like(difference.value, wrong))

    tensors = compare_tensors("mlp", "ordinary", replace_value)
    assert bound_comparison.summarize_bounds(tensors).covered < 0.01
    assert bound_comparison.describe_misses(tensors, 1)[0].startswith("families.problem('mlp', 'ordinary', ")


def test_a_bound_that_says_nothing_is_counted_and_decides_nothing():
    def remove_bound(difference):
        return dataclasses.replace(difference, error_bound=np.full_like(difference.value, np.inf))

    summary = bound_comparison.summarize_bounds(compare_tensors("softmax", "ordinary", remove_bound))
    assert (summary.unbounded, summary.covered, summary.decided, summary.median) == (summary.elements, 1, 0, np.inf)


@pytest.mark.parametrize("family", [family for family, variant in problem_families.CELLS if variant == "confident"])
def test_confident_problems_have_wide_margins(family):
    problem = problem_families.draw_problem(family, "confident", 0)
    values = problem.graph.forward(problem.leaves)
    output, labels = values["output"][0], problem.leaves["y"][0]
    others = np.where(np.arange(output.shape[-1]) == labels[:, None], -np.inf, output).max(axis=-1)
    margin = output[np.arange(len(labels)), labels] - others
    assert (output.shape[-1] * sigmoid(-margin) < 1e-8).all()


@pytest.mark.parametrize("family", problem_families.FAMILIES)
def test_fitted_problems_have_tiny_gradients(family):
    problem = problem_families.draw_problem(family, "fitted", 0)
    by_output = truth.compute_gradients(problem.graph, problem.leaves)["output"].astype(np.float64)
    assert 0 < np.abs(by_output).max() < 1.1e-6


@pytest.mark.parametrize("shift", [1e2, -1e4, 1e6, -1e8])
def test_bounds_are_true_where_logsumexp_is_far_above_its_own_scale(shift):
    """It turns within 1, which is next to nothing beside its value: a step of that size would not be one of its."""
    nodes = [
        problem_families.make_node("a", "logsumexp", "z", dim=1),
        problem_families.make_node("loss", "half_squared_error", "a", "y", reduction="sum"),
    ]
    for seed in range(3):
        generator = np.random.default_rng(seed)
        leaves = {"z": generator.normal(size=(1, 3, 5)) + shift, "y": generator.normal(size=(1, 3))}
        graph = Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()})
        problem = problem_families.FamilyProblem("logsumexp", "shifted", seed, graph, leaves, ("z",))
        differences = finite_difference.differentiate_numerically(graph, leaves, ("z",))
        tensors = bound_comparison.compare_to_truth(problem, differences, compute_shifted_truth(leaves))
        assert bound_comparison.summarize_bounds(tensors).worst <= 1, bound_comparison.describe_misses(tensors, 1)


def compute_shifted_truth(leaves):
    """Gradient of half the sum of (log sum exp z - y)^2, in the digits of the truth."""
    with mpmath.workdps(truth.DIGITS):
        e = np.vectorize(lambda value: mpmath.exp(mpmath.mpf(value)), otypes=[object])(leaves["z"][0])
        total = e.sum(axis=1)
        log = np.vectorize(mpmath.log, otypes=[object])(total)
        y = np.vectorize(mpmath.mpf, otypes=[object])(leaves["y"][0])
        return {"z": (log - y)[:, None] * e / total[:, None]}
