"""What a computation takes, counted: calls of NumPy, and elements and multiply-adds in them. No seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.ops.op import WORK_PER_CALL

_INSPECTING_FUNCTIONS = {
    np.broadcast_shapes,
    np.result_type,
    np.can_cast,
    np.shares_memory,
    np.iscomplexobj,
    np.ndim,
    np.shape,
}
"""Functions that look at no element."""
_VIEW_FUNCTIONS = {
    np.broadcast_to,
    np.reshape,
    np.swapaxes,
    np.moveaxis,
    np.expand_dims,
    np.squeeze,
    np.transpose,
    np.flip,
    np.split,
}
"""Functions that hand back what they are given, seen otherwise."""


@dataclass
class OperationCount:
    """Calls, and elements: the most that one of the arrays of a call has, or the multiply-adds of a product."""

    calls: int = 0
    elements: int = 0

    @property
    def work(self) -> int:
        """In the unit of the estimates."""
        return WORK_PER_CALL * self.calls + self.elements

    def add(self, elements: int) -> None:
        """Count a call."""
        self.calls += 1
        self.elements += elements


_ACTIVE_COUNTS: list[OperationCount] = []


class CountingArray(np.ndarray):
    """An array that counts what is done with it, and with all that comes of it."""

    def __array_finalize__(self, _: Any) -> None:
        return

    def __getitem__(self, key: Any) -> Any:
        bare = self.view(np.ndarray)
        items = bare[_unwrap(key)]
        if _ACTIVE_COUNTS and isinstance(items, np.ndarray) and items.base is None:
            # Not a view: elements were picked.
            _ACTIVE_COUNTS[-1].add(items.size)
        return _wrap(items)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        bare = [_unwrap(array) for array in inputs]
        if out is not None:
            options["out"] = tuple(_unwrap(array) for array in out)
        if "where" in options:
            options["where"] = _unwrap(options["where"])
        result = getattr(ufunc, method)(*bare, **options)
        if _ACTIVE_COUNTS:
            _ACTIVE_COUNTS[-1].add(_count_ufunc_work(ufunc, bare, result))
        if out is not None and len(out) == 1:
            return out[0]
        return _wrap(result)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        bare_arguments, bare_options = _unwrap(arguments), _unwrap(options)
        result = function(*bare_arguments, **bare_options)
        if _ACTIVE_COUNTS and function not in _INSPECTING_FUNCTIONS and function not in _VIEW_FUNCTIONS:
            _ACTIVE_COUNTS[-1].add(_count_function_work(function, bare_arguments, result))
        if isinstance(options.get("out"), np.ndarray):
            return options["out"]
        return result if function in _INSPECTING_FUNCTIONS else _wrap(result)


def _count_ufunc_work(ufunc: np.ufunc, inputs: list[Any], output: Any) -> int:
    if ufunc is np.matmul:
        return _get_size(output) * np.shape(inputs[0])[-1]
    return max(_get_size(output), *map(_get_size, inputs))


def _count_function_work(function: Any, arguments: Any, output: Any) -> int:
    if function is np.einsum:
        equation, *operands = arguments
        lengths: dict[str, int] = {}
        plain = equation.replace("...", "")
        for letters, operand in zip(plain.partition("->")[0].split(","), operands, strict=True):
            shape = np.shape(operand)
            lengths |= dict(zip(letters, shape[len(shape) - len(letters) :], strict=True))
        return int(np.prod([*lengths.values()], dtype=np.int64)) if len(operands) > 1 else max(map(_get_size, operands))
    return max([_get_size(output), *(_get_size(array) for array in _list_arrays(arguments))])


def _list_arrays(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    return [array for part in value for array in _list_arrays(part)] if isinstance(value, list | tuple) else []


def _get_size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_get_size, value))
    return value.size if isinstance(value, np.ndarray) else 1


def _unwrap(value: Any) -> Any:
    if isinstance(value, CountingArray):
        return value.view(np.ndarray)
    if isinstance(value, list):
        return [_unwrap(item) for item in value]
    if type(value) is tuple:
        return tuple(_unwrap(item) for item in value)
    if isinstance(value, dict):
        return {name: _unwrap(item) for name, item in value.items()}
    return value


def _wrap(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.view(CountingArray)
    if isinstance(value, list):
        return [_wrap(item) for item in value]
    return tuple(map(_wrap, value)) if type(value) is tuple else value


def count_operations(work: Callable[..., Any], *arguments: Any) -> OperationCount:
    """Count what some work does with the arrays that it is given."""
    count = OperationCount()
    _ACTIVE_COUNTS.append(count)
    try:
        work(*_prepare_argument(arguments))
    finally:
        _ACTIVE_COUNTS.pop()
    return count


def _prepare_argument(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _prepare_argument(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.view(CountingArray)
    return tuple(map(_prepare_argument, value)) if type(value) is tuple else value
