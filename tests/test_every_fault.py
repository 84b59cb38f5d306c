"""Every bug of the catalogue, injected into every preset where it makes sense, is failed and named."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from schemas.datatype import Array
from service.numerics.faults import BACKWARD, FAULTS, UNKNOWN
from service.numerics.faults.diagnosis import alterations_of
from service.numerics.faults.sweep import gradients_of
from service.numerics.models import PRESETS
from service.numerics.ops import REGISTRY
from tests.candidates import preset as preset_of

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

MUTANTS = {mutant.fault for op in REGISTRY.values() for mutant in op.mutants.values()}

Injection = tuple[str, str, dict[str, Array]]


def shows(candidate: Array, right: Array) -> bool:
    """Whether a wrong gradient is far enough from the right one to say anything."""
    if candidate.shape != right.shape:
        return True
    return bool(np.linalg.norm(candidate - right) >= 1e-4 * np.linalg.norm(right)) or not np.isfinite(candidate).all()


def of_single_gradients(preset: str) -> Iterator[Injection]:
    """Each bug of a single gradient: its name, what was done, and candidates with it."""
    scene = preset_of(preset).scene()
    for name in preset_of(preset).problem.names:
        for fault in FAULTS.values():
            for candidate in fault.injected(scene, name):
                # Of precision alone everything is near.
                if fault.name == "low_precision" or all(shows(each, scene.right(n)) for n, each in candidate.items()):
                    yield fault.name, name, dict(candidate)


def of_the_backward_pass(preset: str) -> Iterator[Injection]:
    """Each bug of the backward pass, in all gradients that it changes."""
    scene, names = preset_of(preset).scene(), preset_of(preset).problem.names
    alterations = list(alterations_of(scene, names))
    for together, made in gradients_of(scene.graph, scene.values, alterations, names):
        for tile, alteration in enumerate(together):
            candidate = {name: each[tile] for name, each in made.items() if np.isfinite(each[tile]).all()}
            candidate = {name: each for name, each in candidate.items() if shows(each, scene.right(name))}
            if candidate:
                yield alteration.fault, alteration.text(), candidate


def unnamed(preset: str, injections: Iterator[Injection]) -> list[tuple[str, str, dict[str, set[str]]]]:
    """Injections that are not failed, or not named, in any tensor that has them."""
    missed: list[tuple[str, str, dict[str, set[str]]]] = []
    for fault, what, candidate in injections:
        named = preset_of(preset).named(candidate)
        if any(fault not in named.get(name, set()) for name in candidate):
            missed.append((fault, what, named))
    return missed


@pytest.mark.parametrize("preset", PRESETS)
def test_every_bug_of_a_single_gradient_is_failed_and_named(preset: str) -> None:
    assert unnamed(preset, of_single_gradients(preset)) == []


@pytest.mark.parametrize("preset", PRESETS)
def test_every_bug_of_the_backward_pass_is_failed_and_named(preset: str) -> None:
    assert unnamed(preset, of_the_backward_pass(preset)) == []


def test_a_bug_that_is_called_by_another_name_is_noticed() -> None:
    """The loop above can fail."""
    wrong = (
        ("scaled", what, each) for fault, what, each in of_single_gradients("mlp_classifier") if fault == "shifted"
    )
    assert unnamed("mlp_classifier", wrong)


@pytest.mark.parametrize("name", TABLE)
def test_every_bug_of_the_table_is_injected_somewhere(name: str) -> None:
    assert name in {*FAULTS, *BACKWARD, *MUTANTS}
    injected = (
        fault == name
        for preset in PRESETS
        for injections in (of_single_gradients(preset), of_the_backward_pass(preset))
        for fault, _, _ in injections
    )
    assert any(injected)


def _one_scaled(right: Array, generator: np.random.Generator) -> Array:
    wrong = right.copy()
    wrong.reshape(-1)[generator.integers(right.size)] *= generator.uniform(1.01, 3)
    return wrong


def _largest_zeroed(right: Array, generator: np.random.Generator) -> Array:
    return np.where(np.abs(right) == np.abs(right).max(), 0, right)


def _some_scaled(right: Array, generator: np.random.Generator) -> Array:
    chosen = generator.random(right.shape) < generator.uniform(0.1, 0.6)
    return np.where(chosen, right * generator.uniform(-2, 3, right.shape), right)


def _noise(right: Array, generator: np.random.Generator) -> Array:
    return right + generator.normal(size=right.shape) * np.abs(right).max() * 10 ** generator.uniform(-3, 0)


CORRUPTIONS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "one element scaled": _one_scaled,
    "largest element zeroed": _largest_zeroed,
    "some elements scaled": _some_scaled,
    "noise added": _noise,
    "noise multiplied": lambda g, rng: g * (1 + rng.normal(size=g.shape) * 10 ** rng.uniform(-3, 0)),
    "elements in random order": lambda g, rng: rng.permutation(g.ravel()).reshape(g.shape),
    "random numbers": lambda g, rng: rng.normal(size=g.shape) * np.abs(g).max(),
    "a constant added": lambda g, rng: g + rng.uniform(0.1, 1) * np.abs(g).max(),
    "unknown factors along the last axis": lambda g, rng: g * rng.uniform(0.5, 2, g.shape[-1:]),
}
"""Ways to be wrong that are no listed bug."""


def test_what_is_no_listed_bug_gets_no_name() -> None:
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
        for found in preset_of(preset).named({name: wrong}, datatype).values():
            failed += 1
            for each in found:
                names[each] = names.get(each, 0) + 1
    assert names == {UNKNOWN: failed}
    assert failed > 950


def signatures() -> dict[str, str]:
    """What each bug of the table looks like, by name."""
    of_ops = dict[str, str]()
    for op in REGISTRY.values():
        for method, mutant in op.mutants.items():
            if method == mutant.fault:
                of_ops.setdefault(mutant.fault, mutant.text)
    own = {name: fault.signature for name, fault in (*BACKWARD.items(), *FAULTS.items())}
    return {name: own.get(name) or of_ops[name] for name in (*TABLE, "reshaped")}


def test_the_readme_lists_every_bug() -> None:
    section = Path("README.md").read_text().split("## The bugs it names")[1].split("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)) == signatures()
    assert f"Beside these, {len(MUTANTS - set(TABLE))} mistakes" in section
