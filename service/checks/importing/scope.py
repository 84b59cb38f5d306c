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
    """Values by name; a graph within another one knows those of that one too."""

    values: dict[str, Slot] = field(default_factory=dict[str, Slot])
    parent: "ValueScope | None" = None

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
    """

    scope: ValueScope
    opset: int
    path: Path = ("graph",)
    functions: tuple[tuple[str, str], ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_inner: bool = False

    def make_name(self, name: str) -> str:
        """Make the name of a value, which those of a function bear its name before theirs."""
        return f"{self.functions[-1][1]}_{name}" if self.functions else name
