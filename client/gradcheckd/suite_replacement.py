"""The replacement of libraries' checkers in modules that have imported them already, and in those to come."""

import functools
import importlib
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import wrapt

from gradcheckd.directions import Directions, use_directions
from gradcheckd.errors import hide_frames
from gradcheckd.suite_counts import SuiteCounts
from gradcheckd.undecided import listen_to_undecided

__tracebackhide__ = hide_frames

LIBRARIES = {"torch": "torch", "jax": "jax.test_util", "scipy": "scipy.optimize"}
"""Libraries, each with the module after whose import its checkers are replaced."""
Checker = Callable[..., Any]


@dataclass(frozen=True)
class SuiteChecker:
    """A checker of a library, and the function in its place.

    Attributes
    ----------
    module, name
        Module that has the checker, and its name there.
    check
        Function with the parameters of the checker.
    error
        Error of that function on a wrong gradient.
    other_error
        Error on anything else; such a checker returns False in place of both with `raise_exception=False`. None for
        checkers without that parameter.
    returns_verdict
        False if the checker returns a number, which its caller judges.
    """

    module: str
    name: str
    check: Checker
    error: type[Exception]
    other_error: type[Exception] | None = None
    returns_verdict: bool = True


class SuiteReplacement:
    """Replaces checkers wherever a module has them under some name, and counts their checks.

    A library that nobody imports is not imported.

    Parameters
    ----------
    counts
        Counts to add to.
    get_test_name
        Returns the name of the running test.
    directions
        Directions of the checks.
    """

    def __init__(self, counts: SuiteCounts, get_test_name: Callable[[], str], directions: Directions) -> None:
        self._counts, self._get_test_name = counts, get_test_name
        self._directions: Directions = directions
        self._libraries: list[LibraryReplacement] = []
        self._is_active = False

    def start(self) -> None:
        """Replace the checkers of each library that has been imported, and of others after their import."""
        self._is_active = True
        for library, module in LIBRARIES.items():
            wrapt.register_post_import_hook(functools.partial(self._add_library, library), module)

    def install(self) -> None:
        """Replace the checkers in modules that have imported them by way of another module."""
        for library in self._libraries:
            library.install()

    def stop(self) -> None:
        """Put the checkers back."""
        self._is_active = False
        for library in self._libraries:
            library.remove()

    def _add_library(self, library: str, _module: Any) -> None:
        # A hook cannot be taken back.
        if self._is_active:
            checkers = importlib.import_module(f"gradcheckd.{library}.suite_checkers").CHECKERS
            replacement = LibraryReplacement(checkers, self._count_check)
            replacement.install()
            self._libraries.append(replacement)

    def _count_check(
        self, checker: SuiteChecker, call_original: Checker, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        self._counts.checks += 1
        with use_directions(self._directions), listen_to_undecided(self._add_undecided):
            try:
                return checker.check(*arguments, **options)
            except checker.error:
                self._counts.failed += 1
                if checker.returns_verdict and _accepts(call_original, arguments, options):
                    self._counts.accepted_errors.append(self._get_test_name())
                raise

    def _add_undecided(self, reason: str) -> None:
        self._counts.undecided.append(f"{self._get_test_name()}: {reason}")


class LibraryReplacement:
    """The replacement of one library's checkers.

    Parameters
    ----------
    checkers
        Checkers of the library.
    run
        Function of a checker, the original, and the arguments and options of a call; returns the result.
    """

    def __init__(self, checkers: Sequence[SuiteChecker], run: Callable[..., Any]) -> None:
        self._run = run
        self._originals: dict[SuiteChecker, Checker] = {
            checker: getattr(sys.modules[checker.module], checker.name) for checker in checkers
        }
        self._replacements = {checker: self._make_replacement(checker) for checker in checkers}

    def install(self) -> None:
        """Replace the checkers in all modules that have been imported; more may follow, so that it may be repeated."""
        self._exchange(self._originals, self._replacements)

    def remove(self) -> None:
        """Put the library's checkers back."""
        self._exchange(self._replacements, self._originals)

    def _exchange(self, current: dict[SuiteChecker, Checker], wanted: dict[SuiteChecker, Checker]) -> None:
        by_identity = {id(current[checker]): wanted[checker] for checker in current}
        for module in list(sys.modules.values()):
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if id(value) in by_identity and not _is_own(module):
                    setattr(module, attribute, by_identity[id(value)])

    def _make_replacement(self, checker: SuiteChecker) -> Checker:
        @functools.wraps(self._originals[checker])
        def replacement(*arguments: Any, **options: Any) -> Any:
            call_original = functools.partial(self._call_original, checker)
            if checker.other_error is None:
                return self._run(checker, call_original, arguments, options)
            raise_exception = options.pop("raise_exception", True)
            try:
                return self._run(checker, call_original, arguments, options)
            except (checker.error, checker.other_error):
                if raise_exception:
                    raise
            return False

        return replacement

    def _call_original(self, checker: SuiteChecker, *arguments: Any, **options: Any) -> Any:
        with self._restore_originals():
            return self._originals[checker](*arguments, **options)

    @contextmanager
    def _restore_originals(self) -> Generator[None]:
        """Have checkers call one another, as torch's of second derivatives does, which it finds in its module."""
        current = {checker: getattr(sys.modules[checker.module], checker.name) for checker in self._originals}
        self._set_attributes(self._originals)
        try:
            yield
        finally:
            self._set_attributes(current)

    @staticmethod
    def _set_attributes(functions: dict[SuiteChecker, Checker]) -> None:
        for checker, function in functions.items():
            setattr(sys.modules[checker.module], checker.name, function)


def _accepts(call_original: Checker, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Tell whether the suite's own checker accepts: it returns True or nothing, and raises no error."""
    try:
        return call_original(*arguments, **options) is not False
    except Exception:  # noqa: BLE001 - of any kind: it does not accept
        return False


def _is_own(module: Any) -> bool:
    return getattr(module, "__name__", "").partition(".")[0] == __name__.partition(".")[0]
