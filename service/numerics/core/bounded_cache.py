"""A bounded cache of what is made from a key and costs more to make than to keep."""

import contextlib
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

ValueT = TypeVar("ValueT")
_MISSING: Any = object()


class BoundedCache(Generic[ValueT]):
    """Values by key, the last used ones.

    The maker is no part of the key, unlike with `functools.lru_cache`: it may hold what the value does not depend on,
    such as the tensors of a request, and the cache does not keep it. Nothing is locked, since a process that another
    thread forks meanwhile would wait for the lock for ever: two threads that ask for one key may both make the value.

    Parameters
    ----------
    max_entries
        Values that are kept at most.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._values: dict[Hashable, ValueT] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get_or_make(self, key: Hashable, make: Callable[[], ValueT]) -> ValueT:
        """Return the value of a key, made if it is not there; what `make` raises is not kept."""
        value = self._values.pop(key, _MISSING)
        return self.put(key, make() if value is _MISSING else value)

    def find(self, key: Hashable) -> ValueT | None:
        """Return the value of a key; None if it is not there."""
        value = self._values.pop(key, _MISSING)
        return None if value is _MISSING else self.put(key, value)

    def put(self, key: Hashable, value: ValueT) -> ValueT:
        """Keep a value, drop the one that was used the longest ago if there are too many, and return it."""
        # The last used one comes last; each operation of a dict is one step for other threads.
        self._values[key] = value
        while len(self._values) > self._max_entries:
            # Another thread may drop entries between two steps.
            with contextlib.suppress(RuntimeError, StopIteration):
                self._values.pop(next(iter(self._values)), None)
        return value
