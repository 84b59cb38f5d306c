"""One call of an operator, as its conversion to nodes takes it, and the registry of the conversions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, cast

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

    def add_outputs_node(self, op: str, outputs: Sequence[str], *inputs: Any, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        kept = {name: value for name, value in attributes.items() if value is not None}
        given = [self.name_input(value) for value in inputs if value is not None]
        node = self.builder.add_node(f"{self.name}.{op}", op, given, kept, outputs)
        return [f"{node}.{output}" for output in outputs]

    def add_named_node(self, op: str, inputs: dict[str, Any], **attributes: Any) -> str:
        """Add a node whose inputs are given by name, those that are None left out."""
        given = {name: self.name_input(value) for name, value in inputs.items() if value is not None}
        kept = {name: value for name, value in attributes.items() if value is not None}
        return self.builder.add_node(f"{self.name}.{op}", op, given, kept)

    def name_input(self, value: Any) -> Any:
        """Return the name of an input of floats, or its number; a list of inputs gives a list."""
        if isinstance(value, GraphTensor):
            return self._name_floats(value)
        if isinstance(value, Tensor):
            return self.add_constant(value, "float")
        if isinstance(value, list | tuple):
            return [self.name_input(part) for part in cast("Sequence[Any]", value)]
        return (
            value
            if isinstance(value, str)
            else self.add_constant(torch.tensor(float(value), dtype=torch.float64), "float")
        )

    def _name_floats(self, value: GraphTensor) -> Any:
        """Return the name of a tensor as floats: a mask as a choice of 1 and 0, integers as a constant."""
        if not value.is_discrete:
            return value.name
        if value.value.dtype is torch.bool:
            return self.builder.add_mask_as_floats(value.name)
        return self.add_constant(self.builder.freeze(value), "float")

    def name_operand(self, value: Any) -> Any:
        """Return the name of an input that may be of floats, integers or truths, or its number."""
        return value.name if isinstance(value, GraphTensor) else self.name_input(value)

    def name_choice(self, value: Any, kind: ConstantKind) -> Any:
        """Return the name of an index or mask: of its node, or of a constant."""
        if isinstance(value, GraphTensor) and value.is_discrete:
            return value.name
        return self.add_constant(value, kind)

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
_OTHER_LIBRARY = "torch_nn."
"""Begins the names of operators that torch keeps beside ATen."""
ChoiceKind = Literal["index", "mask", "any"]
CHOICES: dict[str, Mapping[str, ChoiceKind]] = {}
"""Arguments that a conversion takes as nodes of integers or truths; in all others these become constants."""


def register_converter(
    *names: str, choices: Mapping[str, ChoiceKind] | None = None
) -> Callable[[Converter], Converter]:
    """Register a conversion for operators of ATen.

    Parameters
    ----------
    names
        Names of the operators without "aten.", or with that of torch's other library.
    choices
        Kind of each argument that may be a node of integers or truths: "index", "mask", or "any" of them.
    """

    def register(converter: Converter) -> Converter:
        for name in names:
            full_name = name if name.startswith(_OTHER_LIBRARY) else f"aten.{name}"
            CONVERTERS[full_name] = converter
            CHOICES[full_name] = choices or {}
        return converter

    return register


def map_operator(
    name: str, op: str, *inputs: str, choices: Mapping[str, ChoiceKind] | None = None, **attributes: str
) -> None:
    """Register an operator that is one node.

    Parameters
    ----------
    name
        Name of the operator without "aten.".
    op
        Op of the model language.
    inputs
        Names of the arguments that are its inputs; those behind the last given one may be missing.
    choices
        As in `register_converter`.
    attributes
        Name of the argument for each attribute of the op.
    """

    def convert(call: OperatorCall) -> Converted:
        values = {attribute: call.get(argument) for attribute, argument in attributes.items()}
        return call.add_node(op, *(call.get(argument) for argument in inputs), **values)

    register_converter(name, choices=choices)(convert)


def find_converter(operator: Any) -> Converter | None:
    """Find the conversion of an overload of an operator."""
    overload, packet = str(operator), str(operator.overloadpacket)
    return CONVERTERS.get(overload) or CONVERTERS.get(packet)


def takes_choice(operator: Any, argument: str, value: GraphTensor) -> bool:
    """Tell whether a conversion takes integers or truths as the node that returns them."""
    overload, packet = str(operator), str(operator.overloadpacket)
    kind = (CHOICES.get(overload) or CHOICES.get(packet) or {}).get(argument)
    return kind == "any" or (kind is not None and (kind == "mask") == (value.value.dtype is torch.bool))


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
