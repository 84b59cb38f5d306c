"""Errors of modules that cannot be imported: every unsupported operator at once, and the parts that can be checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradcheckd.errors import GradcheckdError

_MAX_SHOWN_NAMES = 4
_MAX_SHOWN_PARTS = 8


@dataclass(frozen=True)
class UnsupportedOperator:
    """An operator of a module that has no counterpart in the model language.

    Attributes
    ----------
    operator
        Name of the operator, such as "aten.digamma.default".
    reason
        Reason in words.
    nodes
        Names of the nodes of the module with this operator.
    places
        Lines of source that call it, "file.py:12".
    """

    operator: str
    reason: str
    nodes: tuple[str, ...]
    places: tuple[str, ...]

    @property
    def count(self) -> int:
        """Return the number of nodes with this operator."""
        return len(self.nodes)

    def describe(self) -> str:
        """Return the line of an error: operator, count, reason and nodes."""
        rest = self.count - _MAX_SHOWN_NAMES
        names = ", ".join(self.nodes[:_MAX_SHOWN_NAMES]) + (f" and {rest} more" if rest > 0 else "")
        place = f" ({self.places[0]})" if self.places else ""
        return f"{self.operator}, {self.count} x: {self.reason}; at {names}{place}"


class ModuleImportError(GradcheckdError, ValueError):
    """A module or function of torch of which no graph can be made.

    Attributes
    ----------
    unsupported
        All operators without a counterpart; empty where the module could not be traced.
    checkable
        Paths of the largest submodules without such an operator.
    """

    def __init__(
        self, message: str, unsupported: Sequence[UnsupportedOperator] = (), checkable: Sequence[str] = ()
    ) -> None:
        self.unsupported, self.checkable = tuple(unsupported), tuple(checkable)
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.unsupported, self.checkable)


def report_unsupported(unsupported: Sequence[UnsupportedOperator], checkable: Sequence[str]) -> ModuleImportError:
    """Make the error of a module with operators that have no counterpart."""
    count = sum(operator.count for operator in unsupported)
    lines = [f"The module cannot be imported: {count} of its nodes have operators without a counterpart."]
    lines += [f"  {operator.describe()}" for operator in unsupported]
    if checkable:
        rest = len(checkable) - _MAX_SHOWN_PARTS
        names = ", ".join(checkable[:_MAX_SHOWN_PARTS]) + (f" and {rest} more" if rest > 0 else "")
        lines.append(f"  These parts have none of them, and can be checked alone: {names}.")
    lines.append(
        "  Or give reference=, a function of plain torch that computes the same; check_function and check_operator "
        "take any function as it is."
    )
    return ModuleImportError("\n".join(lines), unsupported, checkable)
