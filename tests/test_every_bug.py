"""Every bug of the catalogue, injected into every preset where it makes sense, is failed and named."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.datatype import Array
from service.numerics.diagnosis import inject
from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.diagnose import UNKNOWN_BUG
from service.numerics.diagnosis.inject import InjectedBug, describe_bugs
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.backward_form import GENERATED_BUGS
from tests.solved_problems import solve_preset as preset_of

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

TABLE = (
    "sign_flipped",
    "scaled",
    "transposed",
    "axes_permuted",
    "memory_order",
    "kernel_flipped",
    "shifted",
    "missing_activation_derivative",
    "activation_derivative_at_output",
    "bias_not_summed",
    "broadcast_not_reduced",
    "last_sample_only",
    "shared_weight_last_use_only",
    "double_counted",
    "softmax_jacobian_diagonal_only",
    "missing_one_hot",
    "missing_mean_path",
    "missing_variance_path",
    "weight_decay_added",
    "weight_decay_missing_sign",
    "swapped",
    "detached",
    "clipped",
    "scatter_without_accumulate",
    "channel_factor_missing",
    "low_precision",
    "overflow",
    "not_finite",
)
"""The bugs that are promised by name."""

OP_BUGS = {bug.bug_name for op in OP_REGISTRY.values() for bug in op.bugs.values()}


def inject_gradient_bugs(preset: str) -> Iterator[InjectedBug]:
    """Each bug of a single gradient."""
    return inject.inject_gradient_bugs(preset_of(preset).build_context(), preset_of(preset).problem.names)


def inject_backward_bugs(preset: str) -> Iterator[InjectedBug]:
    """Each bug of the backward pass, in all gradients that it changes."""
    return inject.inject_backward_bugs(preset_of(preset).build_context(), preset_of(preset).problem.names)


def find_unnamed(preset: str, injections: Iterator[InjectedBug]) -> list[tuple[str, str, dict[str, set[str]]]]:
    """Injections that are not failed, or not named, in any tensor that has them."""
    missed: list[tuple[str, str, dict[str, set[str]]]] = []
    for injection in injections:
        named = preset_of(preset).list_bug_names(injection.candidates)
        if any(injection.bug_name not in named.get(name, set()) for name in injection.candidates):
            missed.append((injection.bug_name, injection.explanation, named))
    return missed


@pytest.mark.parametrize("preset", PRESETS)
def test_every_bug_of_a_single_gradient_is_failed_and_named(preset: str) -> None:
    assert find_unnamed(preset, inject_gradient_bugs(preset)) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_bug_of_the_backward_pass_is_failed_and_named(preset: str) -> None:
    assert find_unnamed(preset, inject_backward_bugs(preset)) == []


def test_a_bug_that_is_called_by_another_name_is_noticed() -> None:
    """The loop above can fail."""
    injections = inject_gradient_bugs("mlp_classifier")
    wrong = (replace(injection, bug_name="scaled") for injection in injections if injection.bug_name == "shifted")
    assert find_unnamed("mlp_classifier", wrong)


@pytest.mark.parametrize("name", TABLE)
def test_every_bug_of_the_table_is_injected_somewhere(name: str) -> None:
    assert name in {*GRADIENT_BUGS, *BACKWARD_BUGS, *OP_BUGS}
    injected = (
        injection.bug_name == name
        for preset in PRESETS
        for injections in (inject_gradient_bugs(preset), inject_backward_bugs(preset))
        for injection in injections
    )
    assert any(injected)


def _scale_one(right: Array, generator: np.random.Generator) -> Array:
    wrong = right.copy()
    wrong.reshape(-1)[generator.integers(right.size)] *= generator.uniform(1.01, 3)
    return wrong


def _zero_largest(right: Array, generator: np.random.Generator) -> Array:
    return np.where(np.abs(right) == np.abs(right).max(), 0, right)


def _scale_some(right: Array, generator: np.random.Generator) -> Array:
    chosen = generator.random(right.shape) < generator.uniform(0.1, 0.6)
    return np.where(chosen, right * generator.uniform(-2, 3, right.shape), right)


def _add_noise(right: Array, generator: np.random.Generator) -> Array:
    return right + generator.normal(size=right.shape) * np.abs(right).max() * 10 ** generator.uniform(-3, 0)


def _permute(right: Array, generator: np.random.Generator) -> Array:
    flat = right.ravel()
    wrong = generator.permutation(flat)
    # A rotation is the listed bug `shifted`.
    while any(np.array_equal(np.roll(flat, places), wrong) for places in range(flat.size)):
        wrong = generator.permutation(flat)
    return wrong.reshape(right.shape)


CORRUPTIONS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "one element scaled": _scale_one,
    "largest element zeroed": _zero_largest,
    "some elements scaled": _scale_some,
    "noise added": _add_noise,
    "noise multiplied": lambda g, rng: g * (1 + rng.normal(size=g.shape) * 10 ** rng.uniform(-3, 0)),
    "elements in random order": _permute,
    "random numbers": lambda g, rng: rng.normal(size=g.shape) * np.abs(g).max(),
    "a constant added": lambda g, rng: g + rng.uniform(0.1, 1) * np.abs(g).max(),
    "unknown factors along the last axis": lambda g, rng: g * rng.uniform(0.5, 2, g.shape[-1:]),
}
"""Ways to be wrong that are no listed bug."""


def test_unlisted_bug_gets_no_name() -> None:
    generator = np.random.default_rng(20)
    places = [(preset, name) for preset in PRESETS for name in preset_of(preset).problem.names]
    places = [(preset, name) for preset, name in places if preset_of(preset).routes.analytic.gradients[name].size > 5]
    failed, names = 0, dict[str, int]()
    for _ in range(1000):
        preset, name = places[generator.integers(len(places))]
        datatype = ("FP64", "FP32")[generator.integers(2)]
        corrupt = list(CORRUPTIONS.values())[generator.integers(len(CORRUPTIONS))]
        wrong = corrupt(preset_of(preset).routes.analytic.gradients[name], generator)
        if datatype == "FP32":
            wrong = wrong.astype(np.float32).astype(np.float64)
        for bug_names in preset_of(preset).list_bug_names({name: wrong}, datatype).values():
            failed += 1
            for bug in bug_names:
                names[bug] = names.get(bug, 0) + 1
    assert names == {UNKNOWN_BUG: failed}
    assert failed > 950


def test_the_readme_lists_every_bug() -> None:
    section = Path("docs/bugs.md").read_text().split("## The bugs it names")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)) == {
        name: describe_bugs()[name] for name in {*TABLE, *GENERATED_BUGS, *describe_bugs().keys() - OP_BUGS}
    }
