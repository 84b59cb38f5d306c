"""The cells: three models, each as drawn, with weights and with inputs over many decades; a problem for each seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from service.numerics.core.batching import Array
from tests import problem_families
from tests.alarms import numpy_gradients, torch_gradients
from tests.alarms.arithmetic import BF16, TF32, Arithmetic, round_to_float16

MODELS: Mapping[str, problem_families.Family] = {
    "reference": problem_families.FAMILIES["reference S1"],
    "mlp": problem_families.FAMILIES["mlp"],
    "attention": problem_families.ATTENTION_FAMILY,
}
CELLS = tuple(product(MODELS, problem_families.VARIANTS[:3]))
Leaves = dict[str, Array]
Gradients = dict[str, Array]


def draw_problem(model: str, variant: str, seed: int) -> tuple[problem_families.FamilyProblem, Leaves]:
    """A problem, and its leaves without the tile axis."""
    problem = problem_families.draw_family_problem(model, MODELS[model], variant, seed)
    return problem, {name: leaf[0] for name, leaf in problem.leaves.items()}


def round_to_narrow(leaves: Leaves) -> Leaves:
    """The nearest leaves that bfloat16 and, unless they are beyond its range, float16 have too."""
    half = _round_leaves(leaves, torch.float16)
    inside = all(np.isfinite(array).all() for array in half.values())
    return _round_leaves(half if inside else leaves, torch.bfloat16)


def _round_leaves(leaves: Leaves, dtype: torch.dtype) -> Leaves:
    """Leaves rounded to a dtype; labels stay what they are."""
    return {
        name: leaf if leaf.dtype.kind == "i" else torch.from_numpy(leaf).to(dtype).double().numpy()
        for name, leaf in leaves.items()
    }


@dataclass(frozen=True)
class GradientSource:
    """Where a correct gradient comes from: the arithmetic that it is sent in, and what computed it."""

    arithmetic: str
    implementation: str
    compute: Callable[[str, Leaves, np.random.Generator], Gradients]

    def __str__(self) -> str:
        return f"{self.arithmetic} {self.implementation}"

    def compute_gradients(self, model: str, leaves: Leaves, generator: np.random.Generator) -> Gradients | None:
        """Gradients of the model; None where something on the way is beyond the range of the arithmetic."""
        try:
            gradients = self.compute(model, leaves, generator)
        except FloatingPointError:
            return None
        return gradients if all(np.isfinite(gradient).all() for gradient in gradients.values()) else None


def _make_torch_source(arithmetic: str, dtype: torch.dtype) -> GradientSource:
    return GradientSource(
        arithmetic, "by torch", lambda model, leaves, _: torch_gradients.compute_gradients(model, leaves, dtype)
    )


def _make_hand_source(arithmetic: str, dtype: type[np.floating], operand: Any = None) -> GradientSource:
    make = partial(Arithmetic, dtype) if operand is None else partial(Arithmetic, dtype, round_operand=operand)
    return GradientSource(
        arithmetic,
        "by hand",
        lambda model, leaves, generator: numpy_gradients.compute_gradients(model, leaves, make(generator=generator)),
    )


WIDE_SOURCES = (
    _make_torch_source("FP64", torch.float64),
    _make_hand_source("FP64", np.float64),
    _make_torch_source("FP32", torch.float32),
    _make_hand_source("FP32", np.float32),
)
"""Computed at the point that is sent, which their arithmetic may have to round."""
EXTENDED_SOURCE = _make_hand_source("FP64", np.longdouble)
"""Nearer the truth than any of them: what of a gradient it does not share is rounding."""
NARROW_SOURCES = (
    _make_hand_source("TF32", np.float32, TF32),
    _make_torch_source("BF16", torch.bfloat16),
    _make_hand_source("BF16", np.float32, BF16),
    _make_torch_source("FP16", torch.float16),
    _make_hand_source("FP16", np.float32, round_to_float16),
)
"""Computed at a point that was rounded before it is sent; by hand as tensor cores do, which sum in float32."""
