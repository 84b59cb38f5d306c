"""Errors of an import: each has a place in the file, and none stops the search for others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.problem_details import InvalidRequestError, PlacedError, error_at, quote_name

Path = tuple[str | int, ...]
_MAX_NAMES_LISTED = 5
"""Further nodes that a message names."""


class ModelFileError(Exception):
    """An error of a node, a tensor or an input; the text is the whole message."""


class OperatorUseError(ModelFileError):
    """An error of one operator; the text is the predicate of a sentence that begins with its name."""


class LimitError(Exception):
    """A limit that the model exceeds as a whole.

    Attributes
    ----------
    node
        Operator and name of the node at which it does; empty outside of nodes.
    """

    node: str = ""


class UnsupportedOperatorError(ModelFileError):
    """An operator that is not taken.

    Parameters
    ----------
    operator
        Operator with its domain.
    reason
        Predicate of the sentence that begins with the operator.
    """

    def __init__(self, operator: str, reason: str) -> None:
        super().__init__(f"{operator} {reason}")
        self.operator, self.reason = operator, reason


@dataclass
class _OperatorNodes:
    """The nodes of one operator that is not taken."""

    path: Path
    message: str
    node_names: list[str] = field(default_factory=list[str])


@dataclass
class ErrorList:
    """The errors of a file.

    Attributes
    ----------
    placed
        Errors with their places, without those of unsupported operators.
    """

    placed: list[PlacedError] = field(default_factory=list[PlacedError])
    _operators: dict[str, _OperatorNodes] = field(default_factory=dict[str, _OperatorNodes])

    def __bool__(self) -> bool:
        return bool(self.placed or self._operators)

    def add(self, error: ModelFileError, path: Path, node_name: str = "") -> None:
        """Add an error of a node; the nodes of one unsupported operator become one error."""
        if isinstance(error, UnsupportedOperatorError):
            entry = self._operators.setdefault(str(error), _OperatorNodes(path, str(error)))
            entry.node_names.append(node_name)
        else:
            self.placed.append(error_at(str(error), *path))

    def to_request_error(self, advice: str = "") -> InvalidRequestError:
        """Return all errors as those of a request; the advice ends the first one."""
        operators = [
            error_at(f"{entry.message}{_describe_nodes(entry.node_names)}", *entry.path)
            for entry in self._operators.values()
        ]
        errors = [*operators, *self.placed]
        if advice:
            errors[0] = {**errors[0], "detail": f"{errors[0]['detail']}. {advice}"}
        return InvalidRequestError(errors)


def _describe_nodes(names: Sequence[str]) -> str:
    if len(names) == 1:
        return ""
    listed = ", ".join(map(quote_name, names[:_MAX_NAMES_LISTED]))
    more = f" and {len(names) - _MAX_NAMES_LISTED} more" if len(names) > _MAX_NAMES_LISTED else ""
    return f" ({len(names)} nodes: {listed}{more})"
