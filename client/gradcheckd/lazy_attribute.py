"""Attributes that are computed once, when they are first asked for.

`functools.cached_property` of Python 3.11 holds a lock while it computes. A process that is forked meanwhile, by
another thread, waits for that lock for ever. Here nothing is locked: two threads may both compute equal values.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

ValueT = TypeVar("ValueT", covariant=True)


class lazy_attribute(Generic[ValueT]):  # noqa: N801  # a decorator, as `property` is
    """Make a method an attribute that the instance keeps once it is computed."""

    def __init__(self, compute: Callable[[Any], ValueT]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> "lazy_attribute[ValueT]": ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> ValueT: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> "lazy_attribute[ValueT] | ValueT":
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
