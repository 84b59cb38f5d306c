"""The graph of a request while it is built: nodes and tensors with names of their own."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

ConstantKind = Literal["float", "index", "mask"]
FINITE_MINUS_INFINITY = -1e30
"""Stands for minus infinity before a softmax: its exponential is exactly 0, too."""
MINUS_INFINITY_LIMIT = -1e39
"""Smaller numbers, such as the least one of float64, mean minus infinity."""
_STORAGE: Mapping[ConstantKind, torch.dtype] = {
    "float": torch.float64,
    "index": torch.int64,
    "mask": torch.bool,
}


class UnsupportedError(Exception):
    """A use of an operator that the model language cannot express; the message is the reason."""


@dataclass(frozen=True, eq=False)
class GraphTensor:
    """A tensor that depends on the judged ones.

    Attributes
    ----------
    name
        Name of the node or tensor of the request.
    value
        Its numbers at the point, in float64.
    """

    name: str
    value: Tensor


class GraphBuilder:
    """Collects the nodes and the tensors of a request."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.tensors: dict[str, Tensor] = {}
        self._names: set[str] = set()
        # With the tensor itself, since the number of one that is gone may be given to another.
        self._constants: dict[tuple[int, ConstantKind], tuple[str, Tensor]] = {}

    def reserve_name(self, wanted: str) -> str:
        """Return a name that nothing else has: the wanted one, or that with a number."""
        name, count = wanted, 0
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def add_tensor(self, wanted_name: str, value: Tensor) -> str:
        """Add a tensor of the request, and return its name."""
        name = self.reserve_name(wanted_name)
        self.tensors[name] = value
        return name

    def add_constant(self, value: Tensor, wanted_name: str, kind: ConstantKind) -> str | float:
        """Add a constant, and return its name; a single number stands for itself.

        Raises
        ------
        UnsupportedError
            The constant holds NaN or an infinity.
        """
        numbers = value.detach().to("cpu", _STORAGE[kind])
        if kind == "float":
            numbers = make_finite(numbers)
            if not numbers.ndim:
                return float(numbers)
        key = (id(value), kind)
        if key not in self._constants:
            self._constants[key] = (self.add_tensor(wanted_name, numbers.contiguous()), value)
        return self._constants[key][0]

    def add_node(self, wanted_name: str, op: str, inputs: Any, attributes: Mapping[str, Any]) -> str:
        """Add a node, and return its name."""
        name = self.reserve_name(wanted_name)
        self.nodes[name] = {"name": name, "op": op, "inputs": inputs, **attributes}
        return name

    def rename_node(self, name: str, wanted_name: str) -> str:
        """Rename the node that was added last, to which nothing refers yet; return its name."""
        node = self.nodes.pop(name)
        self._names.discard(name)
        return self.add_node(wanted_name, node.pop("op"), node.pop("inputs"), _drop_name(node))

    def list_reachable(self, loss: str) -> tuple[list[dict[str, Any]], set[str]]:
        """Return the nodes that reach the loss, in order, and the names of all that they read."""
        needed = {loss}
        for name in reversed(self.nodes):
            if name in needed:
                needed.update(_list_input_names(self.nodes[name]["inputs"]))
        return [node for name, node in self.nodes.items() if name in needed], needed


def _drop_name(node: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key != "name"}


def _list_input_names(inputs: Any) -> Iterable[str]:
    if isinstance(inputs, str):
        return [inputs]
    values: Iterable[Any] = ()
    if isinstance(inputs, dict):
        values = cast("dict[str, Any]", inputs).values()
    elif isinstance(inputs, list):
        values = cast("list[Any]", inputs)
    return [name for value in values for name in _list_input_names(value)]


def make_finite(numbers: Tensor) -> Tensor:
    """Replace minus infinity, as in masks of attention, by a number of which no softmax knows the difference.

    Raises
    ------
    UnsupportedError
        There are NaN or positive infinities.
    """
    if bool((numbers.abs() < -MINUS_INFINITY_LIMIT).all()):
        return numbers
    if bool((numbers.isnan() | (numbers == math.inf)).any()):
        raise UnsupportedError("a constant of its inputs holds NaN or infinity")
    return numbers.masked_fill(numbers < MINUS_INFINITY_LIMIT, FINITE_MINUS_INFINITY)
