"""Values of a file during its import: known numbers, and results of nodes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.datatype import DATATYPES, Array, Datatype

Shape = tuple[int, ...]
Section = Literal["tensors", "weights"]
Origin = Literal["constant", "weight", "drawn"]
Kind = Literal["float", "index", "bool"]
_KINDS: Mapping[str, Kind] = {"f": "float", "b": "bool"}


@dataclass(eq=False)
class Known:
    """Numbers that are known at the import.

    Attributes
    ----------
    array
        Numbers of the value; bfloat16 in float32.
    name
        Name in the file.
    datatype
        Datatype of floats on the wire; None for that of the array.
    origin
        "constant" for a part of the model that follows from the file alone; "weight" for an initialiser of floats;
        "drawn" for an input with random values, and for all that follows from it.
    redraw
        Function that draws integers below a limit in place of these; None once they are in use, and for other values.
    """

    array: Array
    name: str
    datatype: Datatype | None = None
    origin: Origin = "constant"
    redraw: Callable[[int], Array] | None = None

    @property
    def shape(self) -> Shape:
        """Return the shape."""
        return self.array.shape

    @property
    def kind(self) -> Kind:
        """Return the kind of the numbers."""
        return _KINDS.get(self.array.dtype.kind, "index")

    @property
    def is_float(self) -> bool:
        """Return whether the numbers are floats."""
        return self.kind == "float"

    @property
    def wire_datatype(self) -> Datatype:
        """Return the datatype in a request."""
        if self.is_float:
            return self.datatype or DATATYPES[f"FP{8 * self.array.dtype.itemsize}"]
        return DATATYPES["BOOL" if self.array.dtype.kind == "b" else "INT64"]


@dataclass(eq=False)
class Symbol:
    """The result of a node.

    Attributes
    ----------
    name
        Name in the file, or one made from it.
    shape
        Shape.
    kind
        Kind of the numbers.
    owner
        Result of the node whose output this is, for a node with several; None for the result itself.
    output
        Name of the output; empty without an owner.
    """

    name: str
    shape: Shape
    kind: Kind = "float"
    owner: "Symbol | None" = None
    output: str = ""

    @property
    def is_float(self) -> bool:
        """Return whether the numbers are floats."""
        return self.kind == "float"


@dataclass(frozen=True)
class Missing:
    """A value without a meaning.

    Attributes
    ----------
    reason
        Noun phrase for a value that the import does not take, such as "the indices of a pool": a node that reads it
        is refused. Empty for one that another error has left: nodes that read it are passed over.
    """

    reason: str = ""


MISSING = Missing()
MASKED_SCORE = -1e30
"""Score in place of minus infinity: its exponential is 0 as well, and so is that of its difference to any score."""
Value = Known | Symbol
