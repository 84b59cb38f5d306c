"""One call of an operator, as its conversion to nodes takes it, and the registry of the conversions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import ConstantKind, GraphBuilder, GraphTensor, UnsupportedError

Converted = str | Sequence[str | None]
"""Name of the node of the result; of several results one name each, None for those without a counterpart."""


@dataclass(frozen=True)
class OperatorCall:
    """A call of an operator whose result depends on judged tensors.

    Attributes
    ----------
    operator
        Overload of an operator of torch.
    builder
        Graph that takes the nodes.
    name
        Name of the result.
    arguments
        Arguments by name in the schema of the operator. A tensor is a GraphTensor, or a constant.
    result
        Numbers of the result at the point.
    """

    operator: Any
    builder: GraphBuilder
    name: str
    arguments: dict[str, Any]
    result: Any

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def operator_name(self) -> str:
        """Return the name of the operator without its overload."""
        return str(self.operator.overloadpacket)

    def apply(self, replacements: Mapping[str, Tensor]) -> Any:
        """Call the operator with other tensors for some of its arguments."""
        return call_operator(self.operator, self.arguments | dict(replacements))

    def get(self, name: str, default: Any = None) -> Any:
        """Return an argument, or a default if it is missing or None."""
        value = self.arguments.get(name)
        return default if value is None else value

    def add_node(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node and return its name.

        Parameters
        ----------
        op
            Name of the op.
        inputs
            Tensors, numbers or names, in the order of the op; None where one is left out at the end.
        attributes
            Attributes; those that are None are left out.
        """
        given = list(inputs)
        while given and given[-1] is None:
            given.pop()
        kept = {name: value for name, value in attributes.items() if value is not None}
        return self.builder.add_node(f"{self.name}.{op}", op, [self.name_input(value) for value in given], kept)

    def add_named_node(self, op: str, inputs: dict[str, Any], **attributes: Any) -> str:
        """Add a node whose inputs are given by name, those that are None left out."""
        given = {name: self.name_input(value) for name, value in inputs.items() if value is not None}
        kept = {name: value for name, value in attributes.items() if value is not None}
        return self.builder.add_node(f"{self.name}.{op}", op, given, kept)

    def name_input(self, value: Any) -> Any:
        """Return the name of an input, or its number; a list of inputs gives a list."""
        if isinstance(value, GraphTensor):
            return value.name
        if isinstance(value, Tensor):
            return self.add_constant(value, "float")
        if isinstance(value, list | tuple):
            return [self.name_input(part) for part in cast("Sequence[Any]", value)]
        return (
            value
            if isinstance(value, str)
            else self.add_constant(torch.tensor(float(value), dtype=torch.float64), "float")
        )

    def add_constant(self, value: Any, kind: ConstantKind) -> str | float:
        """Add a constant tensor of floats, indices or a mask.

        Raises
        ------
        UnsupportedError
            The value depends on judged tensors.
        """
        if isinstance(value, GraphTensor):
            raise UnsupportedError("an index or mask depends on judged tensors")
        return self.builder.add_constant(value, f"{self.name}.{kind}", kind)


Converter = Callable[[OperatorCall], Converted]
CONVERTERS: dict[str, Converter] = {}
"""Conversions by the name of an operator: "aten.tanh", or "aten.add.Tensor" for one overload alone."""


def register_converter(*names: str) -> Callable[[Converter], Converter]:
    """Register a conversion for operators of ATen."""

    def register(converter: Converter) -> Converter:
        CONVERTERS.update({f"aten.{name}": converter for name in names})
        return converter

    return register


def map_operator(name: str, op: str, *inputs: str, **attributes: str) -> None:
    """Register an operator that is one node.

    Parameters
    ----------
    name
        Name of the operator without "aten.".
    op
        Op of the model language.
    inputs
        Names of the arguments that are its inputs; those behind the last given one may be missing.
    attributes
        Name of the argument for each attribute of the op.
    """

    def convert(call: OperatorCall) -> Converted:
        values = {attribute: call.get(argument) for attribute, argument in attributes.items()}
        return call.add_node(op, *(call.get(argument) for argument in inputs), **values)

    register_converter(name)(convert)


def find_converter(operator: Any) -> Converter | None:
    """Find the conversion of an overload of an operator."""
    overload, packet = str(operator), str(operator.overloadpacket)
    return CONVERTERS.get(overload) or CONVERTERS.get(packet)


def is_graph_tensor(value: Any) -> TypeGuard[GraphTensor]:
    """Tell whether a value depends on judged tensors."""
    return isinstance(value, GraphTensor)


def get_value(value: Any) -> Any:
    """Return the numbers of a tensor of either kind."""
    return value.value if isinstance(value, GraphTensor) else value


def get_shape(value: Any) -> list[int]:
    """Return the shape of a tensor of either kind; a number has none."""
    number = get_value(value)
    return list(number.shape) if isinstance(number, Tensor) else []


def call_operator(operator: Any, arguments: Mapping[str, Any]) -> Any:
    """Call an operator with arguments by the names of its schema."""
    schema = operator._schema.arguments
    positional = [arguments[argument.name] for argument in schema if not argument.kwarg_only]
    keywords = {argument.name: arguments[argument.name] for argument in schema if argument.kwarg_only}
    return operator(*positional, **keywords)
