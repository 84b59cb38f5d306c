"""The cells: three models, each as drawn, with weights and with inputs over many decades; a problem for each seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from service.numerics.tiles import Array
from tests import families
from tests.alarms import by_hand, by_torch
from tests.alarms.arithmetic import BF16, TF32, Arithmetic, half

MODELS: Mapping[str, families.Family] = {
    "reference": families.FAMILIES["reference S1"],
    "mlp": families.FAMILIES["mlp"],
    "attention": families.ATTENTION,
}
CELLS = tuple(product(MODELS, families.VARIANTS[:3]))
Leaves = dict[str, Array]
Gradients = dict[str, Array]


def problem(model: str, variant: str, seed: int) -> tuple[families.Problem, Leaves]:
    """A problem, and its leaves without the tile axis."""
    found = families.drawn(model, MODELS[model], variant, seed)
    return found, {name: leaf[0] for name, leaf in found.leaves.items()}


def rounded(leaves: Leaves) -> Leaves:
    """The nearest leaves that bfloat16 and, unless they are beyond its range, float16 have too."""
    half = _each(leaves, torch.float16)
    inside = all(np.isfinite(each).all() for each in half.values())
    return _each(half if inside else leaves, torch.bfloat16)


def _each(leaves: Leaves, dtype: torch.dtype) -> Leaves:
    """Leaves rounded to a dtype; labels stay what they are."""
    return {
        name: leaf if leaf.dtype.kind == "i" else torch.from_numpy(leaf).to(dtype).double().numpy()
        for name, leaf in leaves.items()
    }


@dataclass(frozen=True)
class Source:
    """Where a correct gradient comes from: the arithmetic that it is sent in, and what computed it."""

    arithmetic: str
    by: str
    compute: Callable[[str, Leaves, np.random.Generator], Gradients]

    def __str__(self) -> str:
        return f"{self.arithmetic} {self.by}"

    def gradients(self, model: str, leaves: Leaves, generator: np.random.Generator) -> Gradients | None:
        """Gradients of the model; None where something on the way is beyond the range of the arithmetic."""
        try:
            found = self.compute(model, leaves, generator)
        except FloatingPointError:
            return None
        return found if all(np.isfinite(each).all() for each in found.values()) else None


def _by_torch(arithmetic: str, dtype: torch.dtype) -> Source:
    return Source(arithmetic, "by torch", lambda model, leaves, _: by_torch.gradients(model, leaves, dtype))


def _by_hand(arithmetic: str, dtype: type[np.floating], operand: Any = None) -> Source:
    make = partial(Arithmetic, dtype) if operand is None else partial(Arithmetic, dtype, operand=operand)
    return Source(
        arithmetic,
        "by hand",
        lambda model, leaves, generator: by_hand.gradients(model, leaves, make(generator=generator)),
    )


WIDE = (
    _by_torch("FP64", torch.float64),
    _by_hand("FP64", np.float64),
    _by_torch("FP32", torch.float32),
    _by_hand("FP32", np.float32),
)
"""Computed at the point that is sent, which their arithmetic may have to round."""
EXTENDED = _by_hand("FP64", np.longdouble)
"""Nearer the truth than any of them: what of a gradient it does not share is rounding."""
NARROW = (
    _by_hand("TF32", np.float32, TF32),
    _by_torch("BF16", torch.bfloat16),
    _by_hand("BF16", np.float32, BF16),
    _by_torch("FP16", torch.float16),
    _by_hand("FP16", np.float32, half),
)
"""Computed at a point that was rounded before it is sent; by hand as tensor cores do, which sum in float32."""
