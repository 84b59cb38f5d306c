"""An executor that runs its calls at once, in the calling thread."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, ClassVar, TypeVar

ResultT = TypeVar("ResultT")


class InlineExecutor(Executor):
    """An executor that runs each call at the request for its result.

    It runs in the requesting thread: no queue, and no call in vain.

    Attributes
    ----------
    runs_ahead
        True for an executor that makes calls before their results are asked for.
    """

    runs_ahead: ClassVar = False

    def submit(self, fn: Callable[..., ResultT], /, *args: Any, **kwargs: Any) -> "Future[ResultT]":
        """Call the function, and return its result as a future."""
        future: Future[ResultT] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # the future hands it on
            future.set_exception(error)
        return future

    def map(
        self, fn: Callable[..., ResultT], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[ResultT]:
        """Return an iterator that makes one call after the other, each on request."""
        return map(fn, *iterables)
