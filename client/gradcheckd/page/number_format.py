"""Numbers for readers of the page."""

import math
from collections.abc import Sequence

_MINUS_SIGN = "\N{MINUS SIGN}"
_SMALLEST_DECIMAL, _LARGEST_DECIMAL = 1e-3, 1e5


def format_number(value: float, digits: int = 4) -> str:
    """Format a number in a few digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{_MINUS_SIGN}\N{INFINITY}"
    is_decimal = value == 0 or _SMALLEST_DECIMAL <= abs(value) < _LARGEST_DECIMAL
    text = f"{value:.{digits}g}" if is_decimal else f"{value:.{digits - 1}e}"
    mantissa, exponent_mark, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if exponent_mark else "")).replace("-", _MINUS_SIGN)


def format_sign(value: float) -> str:
    """Format the sign of a number, where there is no room for its digits."""
    return "?" if math.isnan(value) else "+" if value > 0 else _MINUS_SIGN if value < 0 else "0"


def format_element(name: str, index: Sequence[int]) -> str:
    """Format an element of a tensor, as in w1[0][1]."""
    return name + "".join(f"[{position}]" for position in index)


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, in the plural where it is not 1."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
