"""PyTorch's convolutions in blocks, where the whole would take too much memory.

PyTorch copies the factors of each position of the kernel: batch x channels x kernel x positions numbers. With a kernel
of half the picture that is many times the size of all other arrays. A block of positions copies as much less. The
blocks are PyTorch's own convolutions of parts of the input, and PyTorch joins or adds their results.
"""

from itertools import product
from math import prod
from typing import Any

Lengths = tuple[int, ...]

MAX_COPIED_NUMBERS = 2**20
"""Numbers that may be copied at once, if one position does not take more."""


def correlate_in_blocks(
    torch: Any, input: Any, weight: Any, bias: Any, stride: Lengths, padding: Lengths, dilation: Lengths, groups: int
) -> Any:
    """Return (B, C, ...) correlated with (O, C/groups, *kernel), as by `conv1d`, `conv2d` or `conv3d`."""
    functional = torch.nn.functional
    correlate = getattr(functional, f"conv{len(stride)}d")
    extent = _measure_kernel_extent(weight, dilation)
    lengths = tuple(
        (n + 2 * p - e - 1) // s + 1 for n, p, e, s in zip(input.shape[2:], padding, extent, stride, strict=True)
    )
    copied_numbers = input.shape[0] * weight[0].numel()
    if copied_numbers * prod(lengths) <= MAX_COPIED_NUMBERS:
        return correlate(input, weight, bias, stride, padding, dilation, groups)
    ranges = _split_positions(lengths, copied_numbers)

    def correlate_from_axis(axis: int, part: Any) -> Any:
        if axis == len(ranges):
            return correlate(part, weight, bias, stride, 0, dilation, groups)
        blocks = [
            correlate_from_axis(axis + 1, _read_slice(part, 2 + axis, first, last, stride[axis], extent[axis]))
            for first, last in ranges[axis]
        ]
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 2 + axis)

    return correlate_from_axis(0, functional.pad(input, [width for p in reversed(padding) for width in (p, p)]))


def transpose_in_blocks(
    torch: Any,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Lengths,
    padding: Lengths,
    output_padding: Lengths,
    groups: int,
    dilation: Lengths,
) -> Any:
    """Return (B, C, ...) spread by (C, O/groups, *kernel), as by `conv_transpose2d` or `conv_transpose3d`."""
    functional = torch.nn.functional
    transpose = getattr(functional, f"conv_transpose{len(stride)}d")
    # PyTorch copies sample by sample, and group by group.
    copied_numbers = weight[0].numel()
    places = input.shape[2:]
    if copied_numbers * prod(places) <= MAX_COPIED_NUMBERS:
        return transpose(input, weight, bias, stride, padding, output_padding, groups, dilation)
    extent = _measure_kernel_extent(weight, dilation)
    lengths = [
        (n - 1) * s + e + 1 + extra for n, s, e, extra in zip(places, stride, extent, output_padding, strict=True)
    ]
    total: Any = None
    for ranges in product(*_split_positions(tuple(places), copied_numbers)):
        part = input[..., *(slice(*limits) for limits in ranges)]
        block = transpose(part, weight, None, stride, 0, 0, groups, dilation)
        starts = [first * s for (first, _), s in zip(ranges, stride, strict=True)]
        ends = [n - start - k for n, start, k in zip(lengths, starts, block.shape[2:], strict=True)]
        widths = zip(reversed(starts), reversed(ends), strict=True)
        padded_block = functional.pad(block, [width for pair in widths for width in pair])
        total = padded_block if total is None else total + padded_block
    cropped_output = total[..., *(slice(p, n - p) for p, n in zip(padding, lengths, strict=True))]
    return cropped_output if bias is None else cropped_output + bias.reshape(-1, *(1,) * len(stride))


def _measure_kernel_extent(weight: Any, dilation: Lengths) -> Lengths:
    """Return the distance of the last offset of a kernel from its first."""
    return tuple((length - 1) * d for length, d in zip(weight.shape[2:], dilation, strict=True))


def _read_slice(x: Any, axis: int, first: int, last: int, stride: int, extent: int) -> Any:
    """Return the slice that positions `first` to before `last` read along an axis."""
    return x.narrow(axis, first * stride, (last - 1 - first) * stride + extent + 1)


def _split_positions(lengths: Lengths, copied_numbers: int) -> list[list[tuple[int, int]]]:
    """Return ranges of positions of each axis, so that a block of one of each copies no more than it may.

    Parameters
    ----------
    lengths
        Numbers of positions, by axis.
    copied_numbers
        Numbers that one position copies.
    """
    ranges: list[list[tuple[int, int]]] = []
    allowed = max(1, MAX_COPIED_NUMBERS // copied_numbers)
    for length in reversed(lengths):
        size = min(length, allowed)
        ranges.insert(0, [(first, min(first + size, length)) for first in range(0, length, size)])
        allowed = max(1, allowed // size)
    return ranges
