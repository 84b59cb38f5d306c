"""The values that a graph of a file knows by name, and the place of a node."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.problem_details import quote_name
from service.checks.importing.import_errors import ModelFileError, OperatorUseError, Path
from service.checks.importing.values import Missing, Value

Slot = Value | Missing | None


@dataclass
class ValueScope:
    """Values by name; a graph within another one knows those of that one too.

    Attributes
    ----------
    values
        Values so far.
    parent
        Values of the graph around this one; None for the outermost.
    produced
        Names of the outputs of all nodes of the graph.
    """

    values: dict[str, Slot] = field(default_factory=dict[str, Slot])
    parent: "ValueScope | None" = None
    produced: frozenset[str] = frozenset()

    def find(self, name: str) -> Slot:
        """Return a value.

        Raises
        ------
        OperatorUseError
            There is none of that name.
        """
        scope: ValueScope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            if name in scope.produced:
                raise OperatorUseError(
                    f"reads {quote_name(name)}, which this node or a later one makes: the nodes form a cycle, "
                    "or are not in order"
                )
            scope = scope.parent
        raise OperatorUseError(
            f"reads {quote_name(name)}, which is no input, no initialiser and no output of a node before it"
        )

    def define(self, name: str, value: Slot) -> None:
        """Give a value a name.

        Raises
        ------
        ModelFileError
            Another value of this graph has that name.
        """
        if name in self.values:
            raise ModelFileError(f"two values are named {quote_name(name)}")
        self.values[name] = value


@dataclass(frozen=True)
class NodePlace:
    """The place of a node.

    Attributes
    ----------
    scope
        Values by name.
    opset
        Version of the operators.
    path
        Path to the node in the file, or to the node of the main graph whose function or graph has it.
    functions
        Functions that lead to the node, by domain and name, outermost first.
    attributes
        Attributes of the innermost function.
    is_inner
        True if the node lies in a function, or in a graph of another node.
    call_name
        Name of the call of the innermost function; empty outside of functions.
    """

    scope: ValueScope
    opset: int
    path: Path = ("graph",)
    functions: tuple[tuple[str, str], ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_inner: bool = False
    call_name: str = ""

    def make_name(self, name: str) -> str:
        """Make the name of a value: within a function, that of the call stands before it."""
        return f"{self.call_name}/{name}" if self.call_name else name
