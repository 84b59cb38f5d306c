"""Attributes that are worked out once, when they are first asked for.

That of Python 3.11's `functools` holds one lock for each attribute of a class while it works, so that one instance
waits for all others: a small request for a large one beside it. Here nothing is locked. Two threads that ask one
instance at the same moment both work it out, and get equal values.
"""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

ValueT = TypeVar("ValueT", covariant=True)


class cached_attribute(Generic[ValueT]):  # noqa: N801  # a decorator, as `property` is
    """Make a method an attribute that the instance keeps once it is computed.

    A class that has it needs a `__dict__`; it may be a frozen dataclass.
    """

    def __init__(self, compute: Callable[[Any], ValueT]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> ValueT: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Self | ValueT:
        # No data descriptor: what lies in the instance comes first from then on.
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
