"""Locations of the wrong elements of a gradient, in words.

The words are exactly true, or admit that they are not.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from service.numerics.core.batching import Array

_MAX_INDICES_LISTED = 4
_MIN_WRONG_FRACTION = 0.8
"""Wrong fraction that a part of more than half a tensor must have to say anything."""
_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_MIN_SEQUENCE_LENGTH = 3
"""Elements of a regular sequence; any two are one."""


def describe_locations(wrong: Array) -> str:
    """Describe where a mask is true.

    Everywhere, exactly a pattern, a few indices, within a part, or scattered.
    """
    count = int(np.count_nonzero(wrong))
    if count == wrong.size:
        return f"all {count} elements are off" if count > 1 else "its one element is off"
    counted = f"{count} of {wrong.size} elements {'are' if count > 1 else 'is'} off"
    exact = find_exact_pattern(wrong) if count > 1 else None
    if exact is not None:
        return f"{counted}: exactly {exact}"
    if count <= _MAX_INDICES_LISTED:
        return f"{counted}: {', '.join(str([int(i) for i in index]) for index in np.argwhere(wrong))}"
    return f"{counted}: {next(_iterate_enclosing_parts(wrong), 'scattered')}"


def find_exact_pattern(wrong: Array) -> str | None:
    """Return the simplest words for a set of elements that hold all of them and no other; None where there are none."""
    return next(_iterate_exact_patterns(wrong), None)


def _iterate_exact_patterns(wrong: Array) -> Iterator[str]:
    """Yield patterns of exactly the wrong elements, the simplest first."""
    if (product := _describe_index_product(wrong)) is not None:
        yield product
    yield from _iterate_plane_patterns(wrong)
    run = _describe_sequence(np.flatnonzero(wrong), wrong.size)
    if run is not None and "," not in run[1].partition(" to ")[0]:
        yield f"{_format_counted('element', run)}, counted row by row"
    if (product := _describe_index_product(~wrong)) is not None:
        yield f"all but {product}"


def _describe_index_product(wrong: Array) -> str | None:
    """Describe wrong elements that are a product of index sets.

    None if they are none, or a set follows no rule.
    """
    reached = [
        np.flatnonzero(wrong.any(axis=tuple(_iterate_other_axes(axis, wrong.ndim)))) for axis in range(wrong.ndim)
    ]
    if not wrong.any() or wrong.sum() != np.prod([len(axis_positions) for axis_positions in reached], dtype=np.int64):
        return None
    parts: list[str] = []
    for axis, axis_positions in enumerate(reached):
        length = wrong.shape[axis]
        if len(axis_positions) == length:
            continue
        if (sequence := _describe_sequence(axis_positions, length)) is None:
            return None
        parts.append(_format_along_axis(axis, wrong.ndim, sequence, is_last=axis_positions[0] == length - 1))
    return (" of " if wrong.ndim == 2 else " at ").join(parts) or None


def _iterate_other_axes(axis: int, axes: int) -> Iterator[int]:
    return (other_axis for other_axis in range(axes) if other_axis != axis)


def _describe_sequence(positions: Array, length: int) -> tuple[str, str] | None:
    """Describe a set of indices by the words before and behind the counted noun.

    None if the set follows no rule.

    The rules: one index, all from one to another, every k-th, or up to four indices.
    """
    first, last = int(positions[0]), int(positions[-1])
    if len(positions) == 1:
        return "", str(first)
    steps = np.unique(np.diff(positions))
    if len(steps) == 1 and steps[0] == 1:
        is_half = length % 2 == 0 and 2 * len(positions) == length
        half_note = {0: " (the first half)", length // 2: " (the second half)"}.get(first, "") if is_half else ""
        return "s", f"{first} to {last}{half_note}"
    step = int(steps[0])
    regular = len(steps) == 1 and len(positions) >= _MIN_SEQUENCE_LENGTH
    if regular and first < step and last + step >= length and step - 2 < len(_ORDINALS):
        return f"every {_ORDINALS[step - 2]}", f"from {first} on" if first else ""
    if regular:
        return "s", f"{first} to {last} in steps of {step}"
    return ("s", ", ".join(map(str, positions))) if len(positions) <= _MAX_INDICES_LISTED else None


def _format_counted(noun: str, sequence: tuple[str, str]) -> str:
    text_before, text_behind = sequence
    if text_before.startswith("every"):
        return f"{text_before} {noun} {text_behind}".rstrip()
    plural = {"index": "indices"}.get(noun, f"{noun}s")
    return f"{plural if text_before else noun} {text_behind}"


def _format_along_axis(axis: int, axes: int, sequence: tuple[str, str], *, is_last: bool = False) -> str:
    noun = ("row", "column")[axis] if axes == 2 else "element" if axes == 1 else "index"
    words = _format_counted(noun, sequence)
    if is_last:
        words = f"the last {noun} ({sequence[1]})"
    return words if axes <= 2 else f"{words} of axis {axis}"


def _iterate_plane_patterns(wrong: Array) -> Iterator[str]:
    """Yield the parts of the last two axes that are the same in each plane."""
    if wrong.ndim < 2 or min(wrong.shape[-2:]) < 2:
        return
    planes: Array = wrong.reshape(-1, *wrong.shape[-2:])
    plane: Array = planes[0]
    if (planes != plane).any():
        return
    rows: Array = np.arange(int(plane.shape[0]))[:, None]
    below: Array = rows - np.arange(int(plane.shape[1]))
    border: Array = np.ones(wrong.shape[-2:], np.bool_)
    border[1:-1, 1:-1] = False
    shapes: Sequence[tuple[str, Array]] = (
        ("the border", border),
        ("the elements inside the border", ~border),
        ("the diagonal", below == 0),
        ("the elements off the diagonal", below != 0),
        ("the elements above the diagonal", below < 0),
        ("the elements below the diagonal", below > 0),
        ("the diagonal and the elements above it", below <= 0),
        ("the diagonal and the elements below it", below >= 0),
    )
    axes = " in the last two axes" if wrong.ndim > 2 else ""
    yield from (words + axes for words, mask in shapes if np.array_equal(plane, mask))


def _iterate_enclosing_parts(wrong: Array) -> Iterator[str]:
    """Yield parts that hold all wrong elements and some right ones.

    The narrowest part comes first.
    """
    for axis, length in enumerate(wrong.shape):
        reached = np.flatnonzero(wrong.any(axis=tuple(_iterate_other_axes(axis, wrong.ndim))))
        share = np.count_nonzero(wrong) * length / (wrong.size * len(reached))
        if wrong.ndim > 1 and (2 * len(reached) <= length or (len(reached) < length and share >= _MIN_WRONG_FRACTION)):
            sequence = _describe_sequence(reached, length)
            if sequence is not None:
                yield f"some of {_format_along_axis(axis, wrong.ndim, sequence)}"
    if wrong.ndim > 1 and wrong[..., 1:-1, 1:-1].size and not wrong[..., 1:-1, 1:-1].any():
        yield "some along the border of the last two axes, and none inside"
    positions = np.flatnonzero(wrong)
    if 2 * (positions[-1] - positions[0] + 1) <= wrong.size:
        row = ", counted row by row" if wrong.ndim > 1 else ""
        yield f"some of elements {positions[0]} to {positions[-1]}{row}"
