"""Arithmetics of emulated kernels: numbers are stored in a format, and sums are in single precision.

A kernel holds its tensors in a narrow format, multiplies tiles of them and adds up the products in single precision. In
what order is up to the hardware. All numbers here stand in float32, of which those of the narrow formats are a part,
and a sum is split at random places into blocks that are added in random order.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

Round = Callable[[Tensor], Tensor]


def keep(tensor: Tensor) -> Tensor:
    """Return a tensor as it is."""
    return tensor


def round_to_bfloat16(tensor: Tensor) -> Tensor:
    """Round to bfloat16."""
    return tensor.to(torch.bfloat16).float()


def round_to_float16(tensor: Tensor) -> Tensor:
    """Round to float16."""
    return tensor.to(torch.float16).float()


def round_to_tf32(tensor: Tensor) -> Tensor:
    """Round to 11 significant bits, ties away from 0, as `cvt.rna.tf32.f32` does."""
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def quantise_to_e4m3(tensor: Tensor) -> Tensor:
    """Round to E4M3 with a scale for the tensor, by which its largest number becomes that of E4M3."""
    scale = tensor.abs().max() / torch.finfo(torch.float8_e4m3fn).max
    if scale == 0:
        return tensor
    return (tensor / scale).to(torch.float8_e4m3fn).float() * scale


@dataclass(frozen=True)
class Format:
    """The roundings of a kernel by their places.

    Attributes
    ----------
    name
        Name of the arithmetic, as a check takes it.
    read
        Rounding of the tensors that the kernel reads.
    store
        Rounding of all that it stores, or that it casts on the way to a product.
    factor
        Rounding of the factors of a product of matrices.
    stored
        Name of the format of what it stores.
    dtype
        Dtype of PyTorch's tensors of that format.
    """

    name: str
    read: Round
    store: Round
    factor: Round
    stored: str
    dtype: torch.dtype


FORMATS = {
    format_.name: format_
    for format_ in (
        Format("BF16", round_to_bfloat16, round_to_bfloat16, keep, "BF16", torch.bfloat16),
        Format("FP16", round_to_float16, round_to_float16, keep, "FP16", torch.float16),
        Format("TF32", keep, keep, round_to_tf32, "FP32", torch.float32),
        Format("FP32", keep, keep, keep, "FP32", torch.float32),
        Format("FP8_E4M3", quantise_to_e4m3, round_to_bfloat16, keep, "BF16", torch.bfloat16),
    )
}


@dataclass
class Machine:
    """A machine on which a kernel runs: a format, and an order of sums.

    Attributes
    ----------
    format
        The roundings.
    generator
        Source of the orders.
    accumulate
        Rounding of a sum after each block of it; none by default.
    """

    format: Format
    generator: np.random.Generator
    accumulate: Round = field(default=keep)

    def split_blocks(self, length: int) -> list[range]:
        """Split a range at random into blocks, in order."""
        count = int(self.generator.integers(1, min(length, 6) + 1))
        cuts = np.sort(self.generator.choice(np.arange(1, length), count - 1, replace=False)) if count > 1 else []
        edges = [0, *map(int, cuts), length]
        return [range(start, stop) for start, stop in itertools.pairwise(edges)]

    def matmul(self, left: Tensor, right: Tensor, *, loses_block: bool = False) -> Tensor:
        """Return the product of matrices (..., m, k) and (..., k, n); without a block of its sum if it loses one."""
        left, right = self.format.factor(left), self.format.factor(right)
        blocks = self._order_blocks(left.shape[-1], loses_block)
        parts = (left[..., block.start : block.stop] @ right[..., block.start : block.stop, :] for block in blocks)
        return self._add_up(parts, (left[..., :1] @ right[..., :1, :]) * 0)

    def sum(self, tensor: Tensor, dim: int, *, keepdim: bool = False, loses_block: bool = False) -> Tensor:
        """Return a sum along an axis; without a block of it if it loses one."""
        blocks = self._order_blocks(tensor.shape[dim], loses_block)
        parts = (tensor.narrow(dim, block.start, len(block)).sum(dim, keepdim=keepdim) for block in blocks)
        return self._add_up(parts, tensor.narrow(dim, 0, 1).sum(dim, keepdim=keepdim) * 0)

    def _order_blocks(self, length: int, loses_block: bool) -> list[range]:
        blocks = self.split_blocks(length)
        if loses_block:
            size = -(-length // 4)
            start = int(self.generator.integers(length - size + 1))
            blocks = [range(start), range(start + size, length)]
        return [blocks[position] for position in self.generator.permutation(len(blocks))]

    def _add_up(self, parts: Iterable[Tensor], total: Tensor) -> Tensor:
        for part in parts:
            total = self.accumulate(total + part)
        return total
