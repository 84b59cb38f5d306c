"""An executor that does what it is given at once, here."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class InlineExecutor(Executor):
    """Runs each call when its result is asked for, in the thread that asks: no queue, and nothing done in vain."""

    def submit(self, fn: Callable[..., ResultT], /, *args: Any, **kwargs: Any) -> "Future[ResultT]":
        """Call, and hold what came of it."""
        future: Future[ResultT] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # handed on to who asks for the result
            future.set_exception(error)
        return future

    def map(
        self, fn: Callable[..., ResultT], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[ResultT]:
        """Call one after the other, each when its result is asked for."""
        return map(fn, *iterables)
