"""Numbers as a person reads them."""

import math
from collections.abc import Sequence

_MINUS_SIGN = "\N{MINUS SIGN}"
_SMALLEST_DECIMAL, _LARGEST_DECIMAL = 1e-3, 1e5


def format_number(value: float, digits: int = 4) -> str:
    """A number in a few digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{_MINUS_SIGN}\N{INFINITY}"
    plain = value == 0 or _SMALLEST_DECIMAL <= abs(value) < _LARGEST_DECIMAL
    text = f"{value:.{digits}g}" if plain else f"{value:.{digits - 1}e}"
    mantissa, e, exponent = text.partition("e")
    return (mantissa + (f"e{int(exponent)}" if e else "")).replace("-", _MINUS_SIGN)


def format_sign(value: float) -> str:
    """The sign of a number, for where there is no room for it all."""
    return "?" if math.isnan(value) else "+" if value > 0 else _MINUS_SIGN if value < 0 else "0"


def format_element(name: str, index: Sequence[int]) -> str:
    """An element of a tensor."""
    return name + "".join(f"[{each}]" for each in index)


def format_count(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
