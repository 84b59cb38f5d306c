"""A bounded cache of what is made from a key and costs more to make than to keep."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class BoundedCache(Generic[ValueT]):
    """Values by key, the last used ones.

    The maker is no part of the key, unlike with `functools.lru_cache`: it may hold what the value does not depend on,
    such as the tensors of a request, and the cache does not keep it. Two threads that ask for one key at the same
    moment may both make the value.

    Parameters
    ----------
    max_entries
        Values that are kept at most.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries, self._lock = max_entries, threading.Lock()
        self._values: OrderedDict[Hashable, ValueT] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get_or_make(self, key: Hashable, make: Callable[[], ValueT]) -> ValueT:
        """Return the value of a key, made if it is not there; what `make` raises is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._max_entries:
                self._values.popitem(last=False)
        return value
