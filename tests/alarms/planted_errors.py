"""Wrong gradients: correct ones but for one element that matters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS

MATTERING_FRACTION = {"FP64": 1e-6, "FP32": 1e-2, "TF32": 0.1, "BF16": 0.3, "FP16": 0.1}
"""Part of the largest element of its tensor above which an element matters, by arithmetic."""
TARGET_ERROR = {"FP64": 1e-4, "FP32": 1e-2, "TF32": 0.1, "BF16": 0.3, "FP16": 0.1}
"""Relative error that must be found in it."""
ERROR_KINDS = ("off by k", "doubled", "flipped", "zeroed")
_MAX_RELATIVE_ROUNDING = 1e-6
"""Relative rounding of a correct gradient in float64 beyond which an element is nothing that could be wrong by k."""


@dataclass(frozen=True)
class PlantedError:
    """One element, by flat index, that comes out times a factor."""

    kind: str
    name: str
    element: int
    factor: float

    def make_mask(self, shape: tuple[int, ...]) -> Array:
        """What to multiply the gradient of its name by."""
        mask = np.ones(shape)
        mask.flat[self.element] = self.factor
        return mask

    def apply(self, gradient: Array, correct: Array) -> Array:
        """A gradient in which the element is off by the factor from what is correct."""
        wrong = gradient.copy()
        wrong.flat[self.element] = self.factor * correct.flat[self.element]
        return wrong


def plant_errors(
    arithmetic: str, gradients: Mapping[str, Array], extended: Mapping[str, Array], generator: np.random.Generator
) -> Iterator[PlantedError]:
    """One error of each kind, each in a random element of a random tensor.

    Parameters
    ----------
    arithmetic
        In which the gradient is sent.
    gradients, extended
        Correct ones, in float64 and in extended precision.
    generator
        Draws tensors and elements.
    """
    those = {
        name: _find_mattering_elements(gradient, extended[name], MATTERING_FRACTION[arithmetic])
        for name, gradient in gradients.items()
    }
    names = [name for name, elements in those.items() if elements.size]
    factors = dict(zip(ERROR_KINDS, (1 + TARGET_ERROR[arithmetic], 2.0, -1.0, 0.0), strict=True))
    for kind, factor in factors.items() if names else ():
        name = names[generator.integers(len(names))]
        position = int(generator.choice(those[name]))
        # Below its smallest normal number an arithmetic has too few digits for the smallest error: see docs/claims.md.
        if (
            kind == ERROR_KINDS[0]
            and abs(gradients[name].ravel()[position]) < 2.0 ** PRECISIONS[arithmetic].min_exponent
        ):
            continue
        yield PlantedError(kind, name, position, factor)


def _find_mattering_elements(gradient: Array, extended: Array, part: float) -> Array:
    """Flat indices of elements that matter and are known."""
    size = np.abs(extended).ravel()
    known = np.abs(gradient - extended).ravel() <= _MAX_RELATIVE_ROUNDING * size
    return np.flatnonzero(known & (size > part * size.max()))
