"""The replacement of torch's checkers in modules that have imported them already, and in those to come."""

import functools
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from gradcheckd.suite_counts import SuiteCounts
from gradcheckd.torch import gradient_checkers, torch_internals
from gradcheckd.torch.check_settings import Directions, use_directions
from gradcheckd.torch.mismatch_error import GradientMismatchError, hide_frames
from gradcheckd.torch.torch_comparison import listen_to_undecided

__tracebackhide__ = hide_frames

_NAMES = (torch_internals.FIRST_ORDER_CHECKER, torch_internals.SECOND_ORDER_CHECKER)
Checker = Callable[..., bool]


class SuiteReplacement:
    """Replaces torch's checkers wherever a module has them under some name, and counts their checks.

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
        module = torch_internals.get_module()
        self._originals: dict[str, Checker] = {name: getattr(module, name) for name in _NAMES}
        self._replacements = {name: self._make_replacement(name) for name in _NAMES}

    def install(self) -> None:
        """Replace the checkers in all modules that have been imported; more may follow, so that it may be repeated."""
        self._exchange(self._originals, self._replacements)

    def remove(self) -> None:
        """Put torch's checkers back."""
        self._exchange(self._replacements, self._originals)

    @staticmethod
    def _exchange(current: dict[str, Checker], wanted: dict[str, Checker]) -> None:
        by_identity = {id(current[name]): wanted[name] for name in _NAMES}
        for module in list(sys.modules.values()):
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if id(value) in by_identity and not _is_own(module):
                    setattr(module, attribute, by_identity[id(value)])

    def _make_replacement(self, name: str) -> Checker:
        check: Checker = getattr(gradient_checkers, name)

        @functools.wraps(self._originals[name])
        def replacement(*arguments: Any, raise_exception: bool = True, **options: Any) -> bool:
            self._counts.checks += 1
            with use_directions(self._directions), listen_to_undecided(self._add_undecided):
                try:
                    return check(*arguments, **options)
                except GradientMismatchError:
                    self._add_failure(name, arguments, options)
                    if raise_exception:
                        raise
                except torch_internals.GradcheckError:
                    if raise_exception:
                        raise
            return False

        return replacement

    def _add_undecided(self, reason: str) -> None:
        self._counts.undecided.append(f"{self._get_test_name()}: {reason}")

    def _add_failure(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._counts.failed += 1
        with self._use_original():
            try:
                accepts = self._originals[name](*arguments, **options)
            except Exception:  # noqa: BLE001 - of any kind: it does not accept
                accepts = False
        if accepts:
            self._counts.accepted_errors.append(self._get_test_name())

    @contextmanager
    def _use_original(self) -> Generator[None]:
        """Have torch's check of second derivatives call torch's of first ones, which it does by its module."""
        module, name = torch_internals.get_module(), torch_internals.FIRST_ORDER_CHECKER
        current = getattr(module, name)
        setattr(module, name, self._originals[name])
        try:
            yield
        finally:
            setattr(module, name, current)


def _is_own(module: Any) -> bool:
    return getattr(module, "__name__", "").partition(".")[0] == __name__.partition(".")[0]
