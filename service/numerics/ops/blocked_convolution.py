"""Convolutions in PyTorch, block by block where the whole would take too much memory.

PyTorch copies, for each position of the kernel, what it is multiplied by: batch x channels x kernel x positions
numbers, of a kernel of half the picture many times what there is otherwise. Of a block of positions it copies as many
less. The blocks are PyTorch's own convolutions of parts of the input; their results are joined, or added, by it.
"""

from collections.abc import Iterator
from typing import Any

Pair = tuple[int, int]

MAX_COPIED_NUMBERS = 2**20
"""Numbers that may be copied at once, if one position does not take more."""


def correlate_in_blocks(
    torch: Any, input: Any, weight: Any, bias: Any, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """Correlate (B, C, H, W) with (O, C/groups, kh, kw), as `conv2d` does."""
    functional = torch.nn.functional
    extent = _measure_kernel_extent(weight, dilation)
    lengths = [
        (n + 2 * p - e - 1) // s + 1 for n, p, e, s in zip(input.shape[2:], padding, extent, stride, strict=True)
    ]
    copied = input.shape[0] * weight[0].numel()
    if copied * lengths[0] * lengths[1] <= MAX_COPIED_NUMBERS:
        return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
    padded = functional.pad(input, (padding[1], padding[1], padding[0], padding[0]))
    rows: list[Any] = []
    for top, bottom, columns in _split_positions((lengths[0], lengths[1]), copied):
        band = _read_slice(padded, 2, top, bottom, stride[0], extent[0])
        parts = [_read_slice(band, 3, left, right, stride[1], extent[1]) for left, right in columns]
        found = [functional.conv2d(part, weight, bias, stride, 0, dilation, groups) for part in parts]
        rows.append(found[0] if len(found) == 1 else torch.cat(found, 3))
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
    """Spread (B, C, H, W) by (C, O/groups, kh, kw), as `conv_transpose2d` does."""
    functional = torch.nn.functional
    # Sample by sample, and group by group.
    copied = weight[0].numel()
    if copied * input.shape[2] * input.shape[3] <= MAX_COPIED_NUMBERS:
        return functional.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)
    extent = _measure_kernel_extent(weight, dilation)
    lengths = [
        (n - 1) * s + e + 1 + more
        for n, s, e, more in zip(input.shape[2:], stride, extent, output_padding, strict=True)
    ]
    total: Any = None
    for top, bottom, columns in _split_positions((input.shape[2], input.shape[3]), copied):
        for left, right in columns:
            block = functional.conv_transpose2d(
                input[:, :, top:bottom, left:right], weight, None, stride, 0, 0, groups, dilation
            )
            above, before = top * stride[0], left * stride[1]
            around = (
                before, lengths[1] - before - block.shape[3], above, lengths[0] - above - block.shape[2],
            )  # fmt: skip
            placed = functional.pad(block, around)
            total = placed if total is None else total + placed
    inside = total[:, :, padding[0] : lengths[0] - padding[0], padding[1] : lengths[1] - padding[1]]
    return inside if bias is None else inside + bias[:, None, None]


def _measure_kernel_extent(weight: Any, dilation: Pair) -> Pair:
    """Distance of the last offset of a kernel from its first."""
    return (weight.shape[2] - 1) * dilation[0], (weight.shape[3] - 1) * dilation[1]


def _read_slice(x: Any, axis: int, first: int, last: int, stride: int, extent: int) -> Any:
    """What positions from the first to before the last read along an axis."""
    return x.narrow(axis, first * stride, (last - 1 - first) * stride + extent + 1)


def _split_positions(lengths: Pair, copied_numbers: int) -> Iterator[tuple[int, int, list[Pair]]]:
    """Cut positions into blocks, given the numbers copied for each: bands of rows, and the columns of each."""
    height = max(1, MAX_COPIED_NUMBERS // (copied_numbers * lengths[1]))
    width = min(lengths[1], max(1, MAX_COPIED_NUMBERS // (copied_numbers * height)))
    columns = [(left, min(left + width, lengths[1])) for left in range(0, lengths[1], width)]
    for top in range(0, lengths[0], height):
        yield top, min(top + height, lengths[0]), columns
