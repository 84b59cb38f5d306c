"""Layouts of a tensor in memory that keep its numbers."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from gradcheckd.torch.operator_calls import Arrange


def transpose_memory(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor in a memory with the order of its axes reversed."""
    axes = tuple(reversed(range(tensor.dim())))
    return tensor.detach().permute(axes).contiguous().permute(axes)


def space_out(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor as every other element of a memory, with NaN or the largest integer between."""
    memory = _fill_memory((*tensor.shape, 2), tensor)
    memory[..., 0] = tensor.detach()
    return memory[..., 0]


def offset_memory(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor, contiguous, behind a few other elements of its memory."""
    memory = _fill_memory((tensor.numel() + 3,), tensor)
    view = memory[3:].view(tensor.shape)
    view.copy_(tensor.detach())
    return view


LAYOUTS: Mapping[str, Arrange] = {
    "transposed": transpose_memory,
    "strided": space_out,
    "offset": offset_memory,
}
"""Layouts by name."""

NEEDS: Mapping[str, str] = {
    "transposed": "two axes longer than 1",
    "strided": "more than one element",
    "offset": "an element",
}
"""Requirements of a tensor for a layout, by its name."""


def is_rearranged(tensor: Tensor, arranged: Tensor) -> bool:
    """Tell whether a layout differs from that of a contiguous tensor."""
    return tensor.numel() > 0 and (not arranged.is_contiguous() or arranged.storage_offset() > 0)


def expand_element(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape with one number in memory and the stride 0, as that of a sum."""
    if not tensor.numel():
        return tensor.detach()
    return tensor.detach().reshape(-1)[:1].clone().reshape((1,) * tensor.dim()).expand(tensor.shape)


def expand_row(tensor: Tensor) -> Tensor:
    """Return a tensor of the same shape that has the stride 0 along its first axis, as that of a sum over it."""
    return tensor.detach()[:1].clone().expand(tensor.shape) if tensor.dim() else tensor.detach()


def _fill_memory(shape: tuple[int, ...], tensor: Tensor) -> Tensor:
    """Return a memory of numbers that no result may depend on."""
    if tensor.is_floating_point() or tensor.is_complex():
        return torch.full(shape, math.nan, dtype=tensor.dtype, device=tensor.device)
    value = True if tensor.dtype == torch.bool else torch.iinfo(tensor.dtype).max
    return torch.full(shape, value, dtype=tensor.dtype, device=tensor.device)
