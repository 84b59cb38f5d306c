"""The operators of ONNX that are taken: one function each, found by name and version.

A function becomes an operator by `register_operator`. It gets a `NodeCall`, appends nodes by `call.emit`, and
returns the value of its output, or a list of the values of several.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from schemas.datatype import Array
from schemas.problem_details import quote_name
from service.checks.common.limits import Limits
from service.checks.importing.graph_writer import GraphWriter, Operands
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.values import Known, Missing, Symbol, Value

Results = Value | Sequence[Value | Missing | None]


@dataclass(frozen=True)
class NodeCall:
    """One use of an operator.

    Attributes
    ----------
    operator
        Name of the operator.
    inputs
        Values of the inputs; None for one that is left out.
    attributes
        Attributes by name, with the defaults of the operator.
    output_count
        Number of outputs.
    opset
        Version of the operators.
    writer
        Receiver of the nodes.
    """

    operator: str
    inputs: Sequence[Value | None]
    attributes: Mapping[str, Any]
    output_count: int
    opset: int
    writer: GraphWriter = field(repr=False)

    @property
    def limits(self) -> Limits:
        """Return the limits of the request."""
        return self.writer.limits

    def emit(self, op_name: str, operands: Operands, **attributes: Any) -> Symbol:
        """Append a node, and return its result."""
        return self.writer.emit(op_name, operands, **attributes)

    def emit_several(self, op_name: str, operands: Operands, **attributes: Any) -> dict[str, Symbol]:
        """Append a node with several outputs, and return these by name."""
        return self.writer.emit_several(op_name, operands, **attributes)

    def get_optional(self, position: int) -> Value | None:
        """Return an input; None if it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def get(self, position: int) -> Value:
        """Return an input.

        Raises
        ------
        OperatorUseError
            It is left out.
        """
        value = self.get_optional(position)
        if value is None:
            raise OperatorUseError(f"lacks its input {position}")
        return value

    def get_all(self) -> list[Value]:
        """Return all inputs, none of which may be left out."""
        if not self.inputs:
            raise OperatorUseError("has no inputs")
        return [self.get(position) for position in range(len(self.inputs))]

    def get_axis(self, name: str, rank: int, default: int | None = None) -> int:
        """Return an attribute that is an axis, counted from 0."""
        return normalize_axis(self.attributes.get(name, default), rank)

    def get_constant(self, position: int, what: str) -> Array | None:
        """Return the numbers of an input that the file must give; None if it is left out.

        Raises
        ------
        OperatorUseError
            The numbers depend on an input of the model.
        """
        value = self.get_optional(position)
        if value is None:
            return None
        if isinstance(value, Symbol):
            raise OperatorUseError(f"needs a constant {what}; here the model computes it of its inputs or weights")
        if value.origin == "drawn":
            raise OperatorUseError(
                f"needs a constant {what}; here it follows from the input {quote_name(value.name)}. Make that input an "
                "initialiser of the file"
            )
        return value.array

    def get_integers(self, position: int, what: str) -> list[int] | None:
        """Return the integers of an input that the file must give, as a list; None if it is left out."""
        array = self.get_constant(position, what)
        if array is None:
            return None
        if array.dtype.kind not in "iu" or array.ndim > 1 or array.size > self.limits.elements:
            raise OperatorUseError(f"needs a list of integers as its {what}")
        return [int(number) for number in np.atleast_1d(array)]

    def get_indices(self, position: int, limit: int) -> Known:
        """Return indices, counted from 0; those of an input are drawn below the limit.

        Raises
        ------
        OperatorUseError
            The model computes them, or they lie outside the axis.
        """
        value = self.get(position)
        if isinstance(value, Symbol) or value.kind != "index":
            raise OperatorUseError("needs indices that the file gives, or that are an input of integers")
        if value.redraw is not None:
            value.array, value.redraw = value.redraw(limit), None
        array = value.array.astype(np.int64)
        if value.origin == "drawn":
            array = np.mod(array, max(limit, 1))
        if array.size and not (-limit <= array.min() and array.max() < limit):
            raise OperatorUseError(f"has indices outside its axis of length {limit}")
        wrapped = np.where(array < 0, array + limit, array)
        return value if np.array_equal(wrapped, value.array) else Known(wrapped, value.name, origin=value.origin)

    def get_any_indices(self, position: int, limit: int) -> Value:
        """Return indices as `get_indices` does, or integers that the model computes, such as an argmax."""
        value = self.get(position)
        return value if isinstance(value, Symbol) and value.kind == "index" else self.get_indices(position, limit)

    def get_number(self, position: int, what: str) -> float | None:
        """Return one number that the file must give; None if it is left out."""
        array = self.get_constant(position, what)
        if array is None:
            return None
        if array.size != 1:
            raise OperatorUseError(f"needs one number as its {what}")
        return float(array.reshape(()))

    def make_constant(self, array: Array, name: str, like: Value | None = None) -> Known:
        """Make a tensor of the model, a constant of this import; one that follows from a drawn value is drawn."""
        origin = "drawn" if isinstance(like, Known) and like.origin == "drawn" else "constant"
        return Known(np.asarray(array), f"{self.writer.base_name}_{name}", origin=origin)

    def refuse(self, text: str) -> OperatorUseError:
        """Return the error of a form that is not taken."""
        return OperatorUseError(text)


def normalize_axis(axis: Any, rank: int) -> int:
    """Count an axis from 0.

    Raises
    ------
    OperatorUseError
        There is no such axis.
    """
    if not isinstance(axis, int) or not -max(rank, 1) <= axis < max(rank, 1):
        raise OperatorUseError(f"has the axis {axis}, where a tensor has {rank} axes")
    return axis % max(rank, 1)


def normalize_axes(axes: Sequence[int], rank: int) -> list[int]:
    """Count axes from 0, each of them once."""
    normalized = [normalize_axis(axis, rank) for axis in axes]
    if len(set(normalized)) != len(normalized):
        raise OperatorUseError(f"has an axis twice in {list(axes)}")
    return normalized


Handler = Callable[[NodeCall], Results]


class _Entry(NamedTuple):
    handler: Handler
    since: int
    until: int | None


_OPERATORS: dict[str, list[_Entry]] = {}


def register_operator(*names: str, since: int = 1, until: int | None = None) -> Callable[[Handler], Handler]:
    """Return a decorator that makes a function the import of some operators.

    Parameters
    ----------
    names
        Names of the operators.
    since, until
        First version of the operators that the function takes, and first one that it does not; all by default.
    """

    def register(handler: Handler) -> Handler:
        for name in names:
            _OPERATORS.setdefault(name, []).append(_Entry(handler, since, until))
        return handler

    return register


def register_pointwise(**op_names: str) -> None:
    """Make operators of one input without attributes, each with the op of the service that it becomes."""
    for operator, op_name in op_names.items():
        _OPERATORS.setdefault(operator, []).append(_Entry(_make_pointwise(op_name), 1, None))


def _make_pointwise(op_name: str) -> Handler:
    return lambda call: call.emit(op_name, [call.get(0)])


def find_handler(operator: str, opset: int) -> Handler | None:
    """Return the function of an operator in a version; None if it is not taken."""
    for entry in _OPERATORS.get(operator, ()):
        if entry.since <= opset and (entry.until is None or opset < entry.until):
            return entry.handler
    return None


def list_operators() -> list[str]:
    """Return the names of the operators that have a function."""
    return sorted(_OPERATORS)


def as_list(results: Results) -> list[Value | Missing | None]:
    """Return results as a list."""
    return [results] if isinstance(results, Known | Symbol) else list(results)
