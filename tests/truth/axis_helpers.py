"""Axes and pairs, as PyTorch gives them."""

from typing import Any

from tests.truth.mpf_tape import MpfTensor


def normalize_axis(dim: int, x: MpfTensor) -> int:
    return dim % max(x.ndim, 1)


def list_summed_axes(dim: Any, x: MpfTensor) -> tuple[int, ...]:
    """Axes that are summed over: one, several, or all."""
    if dim is None or dim == []:
        return tuple(range(x.ndim))
    return tuple(normalize_axis(axis, x) for axis in ([dim] if isinstance(dim, int) else dim)) if x.ndim else ()


def expand_pair(value: int | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
