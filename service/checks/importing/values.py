"""Values of a file during its import: known numbers, and results of nodes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from schemas.datatype import DATATYPES, Array, Datatype

Shape = tuple[int, ...]
Section = Literal["tensors", "weights"]
Origin = Literal["constant", "weight", "drawn"]


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
    def is_float(self) -> bool:
        """Return whether the numbers are floats."""
        return self.array.dtype.kind == "f"

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
    """

    name: str
    shape: Shape

    @property
    def is_float(self) -> bool:
        """Return whether the numbers are floats: those of all nodes are."""
        return True


class Missing:
    """A value that an error has left without a meaning; nodes that read it are passed over."""


MISSING = Missing()
Value = Known | Symbol
