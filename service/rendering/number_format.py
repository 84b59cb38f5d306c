"""Numbers in the digits that a reader wants. Numbers that are not finite come spelled, and stay so."""

from collections.abc import Sequence

from schemas.report import Number

_SMALLEST_PROBABILITY = 1e-6
"""Below it, the digits of a probability say nothing more."""


def format_value(number: Number) -> str:
    """Format a value, to as many digits as a float64 derivative is good for."""
    return number if isinstance(number, str) else f"{number:.12g}"


def format_magnitude(number: Number) -> str:
    """Format an error, a bound or an allowance in two digits."""
    return number if isinstance(number, str) else f"{number:.2g}"


def format_rounded_up(number: Number) -> str:
    """Format the smallest detectable error, rounded up: a smaller one might be missed."""
    if isinstance(number, str):
        return number
    text = f"{number:.1e}"
    return format_magnitude(
        float(text) if float(text) >= number else float(text) + 10.0 ** (int(text.partition("e")[2]) - 1)
    )


def format_ratio(number: Number) -> str:
    """Format a ratio in three digits."""
    return number if isinstance(number, str) else f"{number:.3g}"


def format_cosine(number: Number) -> str:
    """Format a cosine, which is 1 of gradients that agree."""
    return number if isinstance(number, str) else f"{number:.6g}"


def format_probability(number: float) -> str:
    """Format a probability; one that is neither 0 nor 1 is never shown as either."""
    if 0 < number < _SMALLEST_PROBABILITY:
        return "< 1e-6"
    return "> 0.999" if 0.9995 <= number < 1 else f"{number:.3g}"


def format_index(indices: Sequence[int]) -> str:
    """Format the index of an element, `[]` of a number."""
    return str(list(indices))


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, in the plural where it is not 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def find_largest(numbers: Sequence[Number]) -> Number:
    """Return the largest of numbers none of which is negative; NaN if one of them is."""
    return max(numbers, key=lambda number: (number == "NaN", float(number)))


def compute_ratio(value: Number, reference: Number, allowed: Number) -> Number:
    """Return abs(judged - reference) / allowed as a report has it: 0 where both are 0, NaN where it is no number."""
    distance, limit = abs(float(value) - float(reference)), float(allowed)
    if distance == 0 or not limit:
        return 0.0 if distance == 0 else "Infinity"
    ratio = distance / limit
    return "NaN" if ratio != ratio else "Infinity" if ratio == float("inf") else ratio
