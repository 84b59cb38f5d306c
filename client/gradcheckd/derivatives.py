"""Numerical derivatives of a caller's function, with their error bounds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.function_evaluation import MissingValue, describe_exceptions
from gradcheckd.function_forms import TensorForm

_WIDE_BOUND = 1e-4
"""Error bound, relative to the largest derivative of an output by a tensor, that a further round may make smaller."""


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Derivatives of a function at a point, from differences of its values.

    Attributes
    ----------
    values
        Derivatives, float64: of a function of one array with one output an array of shape output + point; else by
        output, by tensor of the point, or by both, in the forms of outputs and point. NaN where there is none.
    error_bounds
        Their absolute error bounds, in the same form; infinite where nothing is known.
    evaluations
        Number of points of the last round.
    rounds
        Rounds of evaluations; more than one where the function had no derivative at the first scale.
    exceptions
        Exceptions of the function in the last round, each with the number of its point.
    raw
        Last report of the service, with nothing judged.
    """

    values: Any
    error_bounds: Any
    evaluations: int
    rounds: int
    exceptions: tuple[MissingValue, ...]
    raw: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return "\n".join([self.raw["summary"], *describe_exceptions(self.exceptions)])


@dataclass(frozen=True, eq=False)
class BoundedDerivatives:
    """Derivatives by output and tensor of the point, their error bounds, and the shapes of the tensors."""

    values: Mapping[tuple[str, str], Array]
    error_bounds: Mapping[tuple[str, str], Array]
    shapes: Mapping[str, tuple[int, ...]]

    @classmethod
    def read(cls, arrays: Mapping[str, Array], outputs: TensorForm, point: TensorForm) -> "BoundedDerivatives":
        """Read the tensors of an answer, named derivatives/y/w/value and derivatives/y/w/error_bound."""
        keys = [(output, name) for output in outputs.originals for name in point.originals]
        values, error_bounds = (
            {key: np.array(arrays[f"derivatives/{key[0]}/{key[1]}/{part}"]) for key in keys}
            for part in ("value", "error_bound")
        )
        return cls(values, error_bounds, point.shapes)

    def find_lost_elements(self) -> dict[str, Array]:
        """Return masks by tensor of the elements by which some output has a derivative with a wide bound."""
        lost: dict[str, Array] = {}
        for (_, name), wide in self._find_wide_bounds().items():
            by_element = wide.reshape(-1, *self.shapes[name]).any(axis=0)
            if by_element.any():
                lost[name] = np.asarray(by_element | lost.get(name, False))
        return lost

    def narrow(self, further: "BoundedDerivatives") -> "BoundedDerivatives":
        """Return these derivatives, with those of another round where that has the smaller one of a wide bound.

        The first ones stay if both differ by more than their bounds: the smaller moves have met another function, such
        as one stair of a function that is rounded within.
        """
        better = {
            key: wide
            & (further.error_bounds[key] < self.error_bounds[key])
            & ~(np.abs(further.values[key] - self.values[key]) > self.error_bounds[key] + further.error_bounds[key])
            for key, wide in self._find_wide_bounds().items()
        }
        return BoundedDerivatives(
            {key: np.where(better[key], further.values[key], array) for key, array in self.values.items()},
            {key: np.where(better[key], further.error_bounds[key], array) for key, array in self.error_bounds.items()},
            self.shapes,
        )

    def _find_wide_bounds(self) -> dict[tuple[str, str], Array]:
        return {
            key: ~(bounds <= _WIDE_BOUND * np.max(np.abs(self.values[key]), initial=0.0, where=np.isfinite(bounds)))
            for key, bounds in self.error_bounds.items()
        }

    def assemble(self, outputs: TensorForm, point: TensorForm) -> tuple[Any, Any]:
        """Return values and error bounds in the forms of the outputs and the point."""
        values, bounds = (
            outputs.assemble(
                {
                    output: point.assemble({name: arrays[output, name] for name in point.originals})
                    for output in outputs.originals
                }
            )
            for arrays in (self.values, self.error_bounds)
        )
        return values, bounds
