"""Points at which a function has no value, as the reasons of a report tell them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from schemas.problem_details import escape_name
from service.numerics.blackbox.incomplete_lines import find_longest_finite_runs
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout
from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.outcome import Outcome

_REMEDY = "give a smaller scale, or plan with bounds within which it has one."


@dataclass(frozen=True, eq=False)
class MissingValues:
    """Points without a value, of one tensor or of several.

    Attributes
    ----------
    subject
        Name of the function in a sentence.
    layout, names
        Layout of the evaluations, and names of the tensors.
    values
        Values at all points, (evaluations,): NaN where there is none.
    """

    subject: str
    layout: EvaluationLayout
    names: list[str]
    values: Array

    @cached_attribute
    def missing_count(self) -> int:
        """Return the number of points without a value to which the tensors were moved."""
        is_missing = np.isnan(self.values)
        return self._count_points(is_missing & self.layout.mark_taken()) if is_missing.any() else 0

    @property
    def point_count(self) -> int:
        """Return the number of points to which the tensors were moved."""
        return self._count_points(self.layout.mark_taken())

    def _count_points(self, mask: Array) -> int:
        return sum(int(np.count_nonzero(self.layout.select_tensor_losses(name, mask))) for name in self.names)

    @property
    def lacks_near_values(self) -> bool:
        """Tell whether too few points near the base have values."""
        return any(
            not find_longest_finite_runs(self.layout.select_near_losses(name, self.values)) for name in self.names
        )

    def explain(self, verdict: GradientVerdict) -> GradientVerdict:
        """Add the points without a value to the reason of an inconclusive verdict."""
        if verdict.outcome != Outcome.INCONCLUSIVE or not (self.missing_count or self.lacks_near_values):
            return verdict
        location = f"at {self.missing_count} of the {self.point_count} points to which this tensor was moved"
        if self.lacks_near_values:
            location = "at most of the points next to the base, so that nothing is known of its noise"
        return replace(verdict, reason=f"{verdict.reason} {self.subject} has no value {location}: {_REMEDY}")


def count_missing_values(
    layout: EvaluationLayout, names: list[str], values: Array, subject: str = "The loss"
) -> MissingValues:
    """Count the points without a value among those of some tensors.

    Parameters
    ----------
    layout
        Layout of the evaluations.
    names
        Names of the tensors.
    values
        Values at all points, (evaluations,): NaN where there is none.
    subject
        Name of the function in a sentence.
    """
    return MissingValues(subject, layout, names, values)


def mark_incomplete_points(values: Array) -> Array:
    """Return 0 for each point of an output, and NaN where an element with a value at the base has none, (evaluations,).

    Parameters
    ----------
    values
        Values of the output, (evaluations, ...).
    """
    flat = values.reshape(len(values), -1)
    has_base = np.isfinite(flat[:BASE_REPEATS]).all(axis=0)
    return np.where(np.isfinite(flat[:, has_base]).all(axis=1), 0.0, np.nan)


def explain_missing_base(verdict: GradientVerdict, output: str, values: Array) -> GradientVerdict:
    """Name the elements of an output without a value at the base in the reason of an inconclusive verdict."""
    if verdict.outcome != Outcome.INCONCLUSIVE:
        return verdict
    remarks = [*_describe_missing_base(output, values)]
    return replace(verdict, reason=" ".join([verdict.reason, *remarks]))


def _describe_missing_base(output: str, values: Array) -> Iterator[str]:
    is_missing = ~np.isfinite(values[:BASE_REPEATS]).all(axis=0)
    count = int(np.count_nonzero(is_missing))
    if count:
        index = np.unravel_index(int(np.argmax(is_missing)), is_missing.shape) if is_missing.ndim else ()
        element = escape_name(output) + "".join(f"[{number}]" for number in index)
        where = element if is_missing.size == 1 else f"{count} of {is_missing.size} elements, the first {element}"
        yield f"At the base there is no finite value of {where}, and so no derivative: give a point where there is one."
