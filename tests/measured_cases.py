"""Coverage is measured in one case of each test: the tracer doubles its time, and further cases add few lines.

The marker `no_cover` leaves a test out, and `covers_by_cases` measures each of its cases: where each is an op, say.
Imports and shared fixtures are always measured, since which test needs them first is chance.
"""

import os
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, cast

import pytest
from coverage import Coverage

PROCESS_VARIABLE = "COVERAGE_PROCESS_CONFIG"
"""Variable by which `coverage` measures the processes that are started."""


def mark_further_cases(items: Iterable[pytest.Item]) -> None:
    """Mark with `no_cover` all cases of a test but the first, unless the test covers by its cases."""
    names: set[str] = set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if name in names and not item.get_closest_marker("covers_by_cases"):
            item.add_marker("no_cover")
        names.add(name)


def is_measured(item: pytest.Item) -> bool:
    return item.get_closest_marker("no_cover") is None


class Tracing:
    """The tracer of `coverage` in this thread, in threads to come, and in processes to come.

    It is off outside of measured tests, but for the modules of the packages, whichever test imports them first.
    `Coverage.stop` and `Coverage.start` take too long to be called twice a test.
    """

    def __init__(self) -> None:
        measurement = Coverage.current()
        self._is_measured = measurement is not None
        self._tracer, self._thread_tracer = sys.gettrace(), threading.gettrace()
        self._thread = threading.get_ident()
        self._process = os.environ.get(PROCESS_VARIABLE)
        if measurement:
            self._trace(is_on=False)
            # A process that was started has the folders of the packages for their names.
            sources = cast("list[str]", measurement.get_option("run:source"))
            self._trace_imports([os.path.basename(source) for source in sources])

    def _trace(self, is_on: bool) -> None:
        # A tracer loses count of the frames where it is set within a measured one, and each thread has its own.
        if is_on != (sys.gettrace() is not None):
            tracer = self._tracer if threading.get_ident() == self._thread else self._thread_tracer
            sys.settrace(tracer if is_on else None)
            threading.settrace(self._thread_tracer if is_on else None)

    def _trace_imports(self, packages: Collection[str]) -> None:
        # pytest loads the tests, and the package of its plugins, by a loader of its own.
        for loader in {SourceFileLoader, *(type(finder) for finder in sys.meta_path if hasattr(finder, "exec_module"))}:
            if loader is not type:
                self._trace_loader(loader, packages)

    def _trace_loader(self, loader: Any, packages: Collection[str]) -> None:
        execute = loader.exec_module

        def exec_module(self_: object, module: ModuleType) -> None:
            with self.switch(is_on=sys.gettrace() is not None or module.__name__.partition(".")[0] in packages):
                execute(self_, module)

        loader.exec_module = exec_module

    @contextmanager
    def switch(self, is_on: bool) -> Iterator[None]:
        """Measure within the block, or measure nothing; change nothing where no coverage is measured."""
        if not self._is_measured:
            yield
            return
        was_on, process = sys.gettrace() is not None, os.environ.pop(PROCESS_VARIABLE, None)
        if is_on and self._process:
            os.environ[PROCESS_VARIABLE] = self._process
        self._trace(is_on)
        try:
            yield
        finally:
            self._trace(was_on)
            if process:
                os.environ[PROCESS_VARIABLE] = process
