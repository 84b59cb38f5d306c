"""What a computation takes, counted: calls of NumPy, and elements and multiply-adds in them. No seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.ops.op import CALL

_CHECKS = {np.broadcast_shapes, np.result_type, np.can_cast, np.shares_memory, np.iscomplexobj, np.ndim, np.shape}
"""Functions that look at no element."""
_VIEWS = {
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
class Count:
    """Calls, and elements: the most that one of the arrays of a call has, or the multiply-adds of a product."""

    calls: int = 0
    elements: int = 0

    @property
    def work(self) -> int:
        """In the unit of the estimates."""
        return CALL * self.calls + self.elements

    def add(self, elements: int) -> None:
        """Count a call."""
        self.calls += 1
        self.elements += elements


_COUNTS: list[Count] = []


class Counted(np.ndarray):
    """An array that counts what is done with it, and with all that comes of it."""

    def __array_finalize__(self, _: Any) -> None:
        return

    def __getitem__(self, key: Any) -> Any:
        bare = self.view(np.ndarray)
        found = bare[_bare(key)]
        if _COUNTS and isinstance(found, np.ndarray) and found.base is None:
            # Not a view: elements were picked.
            _COUNTS[-1].add(found.size)
        return _counted(found)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        bare = [_bare(each) for each in inputs]
        if out is not None:
            options["out"] = tuple(_bare(each) for each in out)
        if "where" in options:
            options["where"] = _bare(options["where"])
        found = getattr(ufunc, method)(*bare, **options)
        if _COUNTS:
            _COUNTS[-1].add(_of_ufunc(ufunc, bare, found))
        if out is not None and len(out) == 1:
            return out[0]
        return _counted(found)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        bare_arguments, bare_options = _bare(arguments), _bare(options)
        found = function(*bare_arguments, **bare_options)
        if _COUNTS and function not in _CHECKS and function not in _VIEWS:
            _COUNTS[-1].add(_of_function(function, bare_arguments, found))
        if isinstance(options.get("out"), np.ndarray):
            return options["out"]
        return found if function in _CHECKS else _counted(found)


def _of_ufunc(ufunc: np.ufunc, inputs: list[Any], found: Any) -> int:
    if ufunc is np.matmul:
        return _size(found) * np.shape(inputs[0])[-1]
    return max(_size(found), *map(_size, inputs))


def _of_function(function: Any, arguments: Any, found: Any) -> int:
    if function is np.einsum:
        equation, *operands = arguments
        lengths: dict[str, int] = {}
        plain = equation.replace("...", "")
        for letters, each in zip(plain.partition("->")[0].split(","), operands, strict=True):
            shape = np.shape(each)
            lengths |= dict(zip(letters, shape[len(shape) - len(letters) :], strict=True))
        return int(np.prod([*lengths.values()], dtype=np.int64)) if len(operands) > 1 else max(map(_size, operands))
    return max([_size(found), *(_size(each) for each in _arrays(arguments))])


def _arrays(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [value]
    return [each for part in value for each in _arrays(part)] if isinstance(value, list | tuple) else []


def _size(value: Any) -> int:
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return value.size if isinstance(value, np.ndarray) else 1


def _bare(value: Any) -> Any:
    if isinstance(value, Counted):
        return value.view(np.ndarray)
    if isinstance(value, list):
        return [_bare(each) for each in value]
    if type(value) is tuple:
        return tuple(_bare(each) for each in value)
    if isinstance(value, dict):
        return {name: _bare(each) for name, each in value.items()}
    return value


def _counted(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.view(Counted)
    if isinstance(value, list):
        return [_counted(each) for each in value]
    return tuple(map(_counted, value)) if type(value) is tuple else value


def counted(work: Callable[..., Any], *arguments: Any) -> Count:
    """Count what some work does with the arrays that it is given."""
    count = Count()
    _COUNTS.append(count)
    try:
        work(*_to_count(arguments))
    finally:
        _COUNTS.pop()
    return count


def _to_count(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _to_count(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return value.view(Counted)
    return tuple(map(_to_count, value)) if type(value) is tuple else value
