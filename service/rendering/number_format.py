"""Numbers as a reader wants them. What is not finite comes spelled, and stays so."""

from collections.abc import Sequence

from schemas.report import Number


def format_value(number: Number) -> str:
    """A value, to as many digits as a float64 derivative is good for."""
    return number if isinstance(number, str) else f"{number:.12g}"


def format_magnitude(number: Number) -> str:
    """An error, a bound or an allowance: its size alone."""
    return number if isinstance(number, str) else f"{number:.2g}"


def format_rounded_up(number: Number) -> str:
    """The smallest error that is found, rounded up: what is less might be missed."""
    if isinstance(number, str):
        return number
    text = f"{number:.1e}"
    return format_magnitude(
        float(text) if float(text) >= number else float(text) + 10.0 ** (int(text.partition("e")[2]) - 1)
    )


def format_ratio(number: Number) -> str:
    """How many times over something, or how many."""
    return number if isinstance(number, str) else f"{number:.3g}"


def format_cosine(number: Number) -> str:
    """A cosine, where 1 is what it should be."""
    return number if isinstance(number, str) else f"{number:.6g}"


def format_probability(number: float) -> str:
    """A probability; one that is not 1 is not shown as 1."""
    return "> 0.999" if 0.9995 <= number < 1 else f"{number:.3g}"


def format_index(indices: Sequence[int]) -> str:
    """Index of an element, `[]` of a number."""
    return str(list(indices))


def format_count(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def find_largest(numbers: Sequence[Number]) -> Number:
    """The largest of numbers none of which is negative; NaN if one of them is."""
    return max(numbers, key=lambda each: (each == "NaN", float(each)))


def compute_ratio(value: Number, reference: Number, allowed: Number) -> Number:
    """abs(judged - reference) / allowed, as the ratio of a report is: 0 where both are 0, NaN where it is none."""
    distance, most = abs(float(value) - float(reference)), float(allowed)
    if distance == 0 or not most:
        return 0.0 if distance == 0 else "Infinity"
    found = distance / most
    return "NaN" if found != found else "Infinity" if found == float("inf") else found
