"""The report on an operator: a line for each property."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from gradcheckd.errors import GradientError, hide_frames

__tracebackhide__ = hide_frames

LineOutcome = Literal["pass", "fail", "inconclusive", "not run"]


@dataclass(frozen=True)
class OperatorLine:
    """The outcome of one property.

    Attributes
    ----------
    name
        Name of the property: "upstream gradient, transposed".
    outcome
        "pass", "fail", "inconclusive", or "not run" if the operator or its inputs do not allow the property.
    detail
        Measured difference, allowed difference, or the reason, in words.
    """

    name: str
    outcome: LineOutcome
    detail: str


@dataclass(frozen=True)
class OperatorReport:
    """The report on an operator.

    Attributes
    ----------
    lines
        Lines in the order of the checks.
    """

    lines: tuple[OperatorLine, ...]

    @property
    def outcome(self) -> LineOutcome:
        """Return "fail" if a line fails, else "inconclusive" if a line is, else "pass"."""
        outcomes = {line.outcome for line in self.lines}
        return "fail" if "fail" in outcomes else "inconclusive" if "inconclusive" in outcomes else "pass"

    @property
    def passed(self) -> bool:
        """Tell whether every line passes or does not apply."""
        return self.outcome == "pass"

    @property
    def summary(self) -> str:
        """Return the outcome with the number of lines by outcome."""
        counts = Counter(line.outcome for line in self.lines)
        parts = [
            f"{count} {outcome}"
            for outcome in ("fail", "inconclusive", "pass", "not run")
            if (count := counts[outcome])
        ]
        return f"{self.outcome}: {', '.join(parts)}"

    def get_line(self, name: str) -> OperatorLine:
        """Return the line of a name.

        Raises
        ------
        KeyError
            The report has no such line; the message lists the names.
        """
        lines = {line.name: line for line in self.lines}
        if name not in lines:
            raise KeyError(f"No line {name!r}; the report has {', '.join(map(repr, lines))}.")
        return lines[name]

    def text(self) -> str:
        """Return the report for a terminal: the summary, then the lines, those that fail first."""
        order = ("fail", "inconclusive", "pass", "not run")
        width = max((len(line.name) for line in self.lines), default=0)
        rows = [
            f"  {line.outcome:<12}  {line.name:<{width}}  {line.detail}".rstrip()
            for line in sorted(self.lines, key=lambda line: order.index(line.outcome))
        ]
        return "\n".join([self.summary, "", *rows, ""])

    def __str__(self) -> str:
        return self.summary


class OperatorError(GradientError):
    """An operator with a line that fails, or that could not be decided; its message is the report.

    Attributes
    ----------
    report
        Report of the check.
    """

    def __init__(self, report: OperatorReport, text: str) -> None:
        self.report: Any = report
        self._text = text
        AssertionError.__init__(self, text)
