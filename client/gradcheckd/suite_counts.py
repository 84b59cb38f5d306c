"""Counts of the checks of a suite whose checkers were replaced."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

_MAX_LISTED = 10


@dataclass
class SuiteCounts:
    """Counts and reasons of a suite's checks.

    Attributes
    ----------
    checks
        Checks that were made.
    failed
        Checks with a wrong gradient.
    undecided
        Reasons of the checks that were left to the suite's own checker, each with its test.
    accepted_errors
        Tests with a wrong gradient that the suite's own checker accepts.
    """

    checks: int = 0
    failed: int = 0
    undecided: list[str] = field(default_factory=list[str])
    accepted_errors: list[str] = field(default_factory=list[str])

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Read the counts of another process."""
        return cls(**raw)

    def to_plain(self) -> dict[str, Any]:
        """Return the counts for another process."""
        return asdict(self)

    def add(self, other: "SuiteCounts") -> None:
        """Add the counts of another process."""
        self.checks += other.checks
        self.failed += other.failed
        self.undecided += other.undecided
        self.accepted_errors += other.accepted_errors

    def format_lines(self) -> list[str]:
        """Return the closing lines of a suite."""
        accepted = len(self.accepted_errors)
        lines = [
            f"{_count(self.checks, 'check')}: {self.failed} failed, {len(self.undecided)} inconclusive and left to the "
            f"suite's own checker, {_count(accepted, 'error')} that the suite's own checker accepts"
        ]
        for title, entries in (("accepted by the suite", self.accepted_errors), ("inconclusive", self.undecided)):
            lines += [f"  {title}: {entry}" for entry in entries[:_MAX_LISTED]]
            if len(entries) > _MAX_LISTED:
                lines.append(f"  ... and {len(entries) - _MAX_LISTED} more")
        return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
