"""A scale for signed numbers that people with any colour vision can read, and that changes in lightness evenly.

vik of F. Crameri, "Scientific colour maps" 8 (2018, MIT): blue below zero, red above, and light in the middle.
"""

from collections.abc import Sequence

import numpy as np

from gradcheckd.arrays import Array

_VIK_COLOURS = bytes.fromhex(
    "001261 022b71 034481 0c5e92 2f7ca6 609dbc 92bdd2 c5dbe5 ece5e1 "  # zero is in the middle
    "e9cbb9 dcab8f cf8e68 c37243 b3531f 932e06 741506 590008"
)
_COLOUR_STOPS = np.frombuffer(_VIK_COLOURS, np.uint8).reshape(-1, 3).astype(np.float64)
_MISSING_COLOUR = (128, 128, 128)
_INK_THRESHOLD = 0.18
"""Relative luminance of WCAG 2 with which black and white contrast alike."""


def find_largest_magnitude(arrays: Sequence[Array]) -> float:
    """Return the largest magnitude of a finite number in some arrays; 0 if there is none."""
    sizes = [np.abs(array[np.isfinite(array)]).max(initial=0.0) for array in arrays]
    return float(max(sizes, default=0.0))


def colour_values(values: Array, limit: float) -> Array:
    """Return the colours of numbers from -limit to limit.

    Returns
    -------
    RGB in uint8, (..., 3); grey of what is not finite.
    """
    is_finite = np.isfinite(values)
    # Halved first: the ratio of numbers that are barely normal must not overflow.
    fraction = np.where(is_finite, values, 0.0) / limit if limit > 0 else np.zeros(values.shape)
    position = np.clip(0.5 + fraction / 2, 0, 1) * (len(_COLOUR_STOPS) - 1)
    lower_stops = np.minimum(position.astype(int), len(_COLOUR_STOPS) - 2)
    colours = (
        _COLOUR_STOPS[lower_stops]
        + (_COLOUR_STOPS[lower_stops + 1] - _COLOUR_STOPS[lower_stops]) * (position - lower_stops)[..., None]
    )
    return np.where(is_finite[..., None], np.rint(colours), _MISSING_COLOUR).astype(np.uint8)


def choose_ink(colour: Array) -> str:
    """Choose black or white ink for a background colour."""
    channels = colour / 255
    linear_channels = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000" if float(linear_channels @ (0.2126, 0.7152, 0.0722)) > _INK_THRESHOLD else "#fff"


def to_css(colour: Array) -> str:
    """Write a colour for CSS."""
    return "#" + "".join(f"{int(channel):02x}" for channel in colour)


def make_ramp() -> list[str]:
    """Return the colours from the least to the largest number, for a legend."""
    return [to_css(colour) for colour in _COLOUR_STOPS]
