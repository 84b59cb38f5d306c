"""Axes and pairs, as PyTorch gives them."""

from typing import Any

from tests.truth.tape import Tensor


def along(dim: int, x: Tensor) -> int:
    return dim % max(x.ndim, 1)


def over(dim: Any, x: Tensor) -> tuple[int, ...]:
    """Axes that are summed over: one, several, or all."""
    if dim is None or dim == []:
        return tuple(range(x.ndim))
    return tuple(along(each, x) for each in ([dim] if isinstance(dim, int) else dim)) if x.ndim else ()


def pair(value: int | list[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
