"""PyTorch's convolutions in blocks, where the whole would take too much memory.

PyTorch copies the factors of each position of the kernel: batch x channels x kernel x positions numbers. With a kernel
of half the picture that is many times the size of all other arrays. A block of positions copies as much less. The
blocks are PyTorch's own convolutions of parts of the input, and PyTorch joins or adds their results.
"""

from collections.abc import Iterator
from typing import Any

Pair = tuple[int, int]

MAX_COPIED_NUMBERS = 2**20
"""Numbers that may be copied at once, if one position does not take more."""


def correlate_in_blocks(
    torch: Any, input: Any, weight: Any, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """Return (B, C, H, W) correlated with (O, C/groups, kh, kw), as by `conv2d`."""
    functional = torch.nn.functional
    extent = _measure_kernel_extent(weight, dilation)
    lengths = [
        (n + 2 * p - e - 1) // s + 1 for n, p, e, s in zip(input.shape[2:], padding, extent, stride, strict=True)
    ]
    copied_numbers = input.shape[0] * weight[0].numel()
    if copied_numbers * lengths[0] * lengths[1] <= MAX_COPIED_NUMBERS:
        return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
    padded = functional.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    rows: list[Any] = []
    for top, bottom, columns in _split_positions((lengths[0], lengths[1]), copied_numbers):
        band = _read_slice(padded, 2, top, bottom, stride[0], extent[0])
        parts = [_read_slice(band, 3, left, right, stride[1], extent[1]) for left, right in columns]
        blocks = [functional.conv2d(part, weight, bias, stride, 0, dilation, groups) for part in parts]
        rows.append(blocks[0] if len(blocks) == 1 else torch.cat(blocks, 3))
    return rows[0] if len(rows) == 1 else torch.cat(rows, 2)


def transpose_in_blocks(
    torch: Any,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Any:
    """Return (B, C, H, W) spread by (C, O/groups, kh, kw), as by `conv_transpose2d`."""
    functional = torch.nn.functional
    # PyTorch copies sample by sample, and group by group.
    copied_numbers = weight[0].numel()
    if copied_numbers * input.shape[2] * input.shape[3] <= MAX_COPIED_NUMBERS:
        return functional.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    extent = _measure_kernel_extent(weight, dilation)
    lengths = [
        (n - 1) * s + e + 1 + extra
        for n, s, e, extra in zip(input.shape[2:], stride, extent, output_padding, strict=True)
    ]
    total: Any = None
    for top, bottom, columns in _split_positions((input.shape[2], input.shape[3]), copied_numbers):
        for left, right in columns:
            block = functional.conv_transpose2d(
                input[:, :, top:bottom, left:right], weight, None, stride, 0, 0, groups, dilation
            )
            rows_above, columns_before = top * stride[0], left * stride[1]
            rows_below = lengths[0] - rows_above - block.shape[2]
            columns_after = lengths[1] - columns_before - block.shape[3]
            widths = columns_before, columns_after, rows_above, rows_below
            padded_block = functional.pad(block, widths)
            total = padded_block if total is None else total + padded_block
    cropped_output = total[:, :, padding[0] : lengths[0] - padding[0], padding[1] : lengths[1] - padding[1]]
    return cropped_output if bias is None else cropped_output + bias[:, None, None]


def _measure_kernel_extent(weight: Any, dilation: Pair) -> Pair:
    """Return the distance of the last offset of a kernel from its first."""
    return (weight.shape[2] - 1) * dilation[0], (weight.shape[3] - 1) * dilation[1]


def _read_slice(x: Any, axis: int, first: int, last: int, stride: int, extent: int) -> Any:
    """Return the slice that positions `first` to before `last` read along an axis."""
    return x.narrow(axis, first * stride, (last - 1 - first) * stride + extent + 1)


def _split_positions(lengths: Pair, copied_numbers: int) -> Iterator[tuple[int, int, list[Pair]]]:
    """Yield blocks of positions: bands of rows, each with its ranges of columns.

    Parameters
    ----------
    lengths
        Numbers of rows and columns of positions.
    copied_numbers
        Numbers that one position copies.
    """
    height = max(1, MAX_COPIED_NUMBERS // (copied_numbers * lengths[1]))
    width = min(lengths[1], max(1, MAX_COPIED_NUMBERS // (copied_numbers * height)))
    columns = [(left, min(left + width, lengths[1])) for left in range(0, lengths[1], width)]
    for top in range(0, lengths[0], height):
        yield top, min(top + height, lengths[0]), columns
