"""The size of a plan: the numbers of its points and of the values at them, within the limits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from schemas.problem_details import InvalidRequestError, error_at
from service.checks.blackbox.outputs import OutputRequest, count_elements_by_output
from service.checks.common.limits import Limits
from service.numerics.blackbox.layout import EVALUATIONS_BEFORE_STEPS, count_separate_near_lines
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT

BINARY_SIZE_FACTOR = 8
"""Factor on the numbers that the points may hold in the safetensors format, 8 bytes each at most, over JSON."""
_NUMBERS_PER_TENSOR = 8
"""Overhead of each tensor of each point, in numbers."""
_BYTES_PER_NUMBER = 24
"""Memory of each number of the points while the safetensors format is written."""


@dataclass(frozen=True)
class SizeLimit:
    """The most numbers that the points of a plan may hold, and as many values.

    Attributes
    ----------
    limits
        Limits of the request.
    size_factor
        Factor on the number of elements.
    path_prefix
        Path into the request of the object with `directions` and `outputs`.
    """

    limits: Limits
    size_factor: int = 1
    path_prefix: tuple[str, ...] = ()

    @property
    def most_numbers(self) -> int:
        """Return the most numbers."""
        return compute_most_numbers(self.limits, self.size_factor)

    @property
    def format_hint(self) -> str:
        """Return the words about the format that takes more numbers; none if it is in use."""
        if self.size_factor != 1 or self.path_prefix:
            return ""
        return f"; with Accept: application/vnd.safetensors {BINARY_SIZE_FACTOR} times as many may"


def compute_most_numbers(limits: Limits, size_factor: int) -> int:
    """Return the most numbers that points, values or products may hold."""
    return min(limits.elements * size_factor, limits.bytes // _BYTES_PER_NUMBER)


def count_evaluations(points: Mapping[str, TensorPoint], count: int, *, random: bool) -> int:
    """Return the number of evaluations of the loss."""
    return (
        EVALUATIONS_BEFORE_STEPS
        + NEAR_POINT_COUNT * count_separate_near_lines(len(points))
        + sum(
            2 * len(point.schedule.exponents) * (count if random else min(count, point.values.size))
            for point in points.values()
        )
    )


def count_tensor_numbers(sizes: Sequence[int]) -> int:
    """Return the numbers of tensors of these sizes, with the overhead of each."""
    return sum(sizes) + _NUMBERS_PER_TENSOR * len(sizes)


def check_plan_size(
    points: Mapping[str, TensorPoint], outputs: OutputRequest, *, random: bool, count: int, limit: SizeLimit
) -> None:
    """Refuse points or values with too many numbers, and give the number of directions that would fit.

    Parameters
    ----------
    points
        Tensors by name.
    outputs
        Outputs of the function; without any, it is a loss.
    random
        True for random directions, False for those of single elements.
    count
        Number of directions of each tensor.
    limit
        Limit of the numbers.

    Raises
    ------
    InvalidRequestError
        The estimate, the limit, and the remedy.
    """
    evaluate = partial(count_evaluations, points, random=random)
    point_numbers = count_tensor_numbers([point.values.size for point in points.values()])
    if error := _describe_excess(evaluate, point_numbers, count, limit, _POINT_WORDS):
        raise InvalidRequestError([error_at(error, *limit.path_prefix, "directions", "count")], "over-budget")
    value_numbers = count_tensor_numbers([*count_elements_by_output(outputs.shapes).values()])
    if error := _describe_excess(evaluate, value_numbers, count, limit, _VALUE_WORDS):
        raise InvalidRequestError([error_at(error, *limit.path_prefix, outputs.field_name)], "over-budget")


_POINT_WORDS = ("{} points of all tensors", "name fewer or smaller tensors")
_VALUE_WORDS = ("the outputs at {} points", "check fewer or smaller outputs at once")


def _describe_excess(
    evaluate: Callable[[int], int], numbers_each: int, count: int, limit: SizeLimit, words: tuple[str, str]
) -> str:
    """Describe numbers beyond the limit, and the count of directions that would fit; nothing if they are within it.

    Parameters
    ----------
    evaluate
        Function that returns the number of evaluations with a number of directions.
    numbers_each
        Numbers at each evaluation.
    count
        Number of directions.
    limit
        Limit of the numbers.
    words
        Name of the numbers, with a place for the evaluations, and the remedy if not one direction fits.
    """
    evaluations, most = evaluate(count), limit.most_numbers
    numbers = evaluations * numbers_each
    if numbers <= most:
        return ""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if evaluate(middle) * numbers_each <= most else (low, middle)
    holder, remedy = words
    fits = f"a count of {low} would fit" if low else f"not one direction would fit: {remedy}"
    return (
        f"{holder.format(evaluations)} would hold {_format_count(numbers)} numbers; at most {most} may"
        f"{limit.format_hint}. Of directions, {fits}"
    )


def _format_count(count: int) -> str:
    # A shape may declare a number of many thousand digits, which Python refuses to print.
    return str(count) if count < 2**63 else "more than 2^63"
