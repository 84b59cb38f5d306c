"""The graph of a request while it is built: nodes and tensors with names of their own."""

import math
from collections.abc import Iterable, Mapping, Sequence
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


@dataclass(frozen=True)
class FixedValue:
    """An integer or truth that depends on judged tensors, or a step function of them.

    Attributes
    ----------
    operator
        Operator that made it.
    place
        Line of source, "file.py:12", or the name of the node.
    margin
        Distance of the point from a jump of the value, relative to the numbers compared.
    is_node
        True if the graph computes it, so that the service judges how near it is to a jump. False for a constant.
    least_roundoffs
        Unit roundoffs of the module's arithmetic by which the point must be away from a jump.
    """

    operator: str
    place: str
    margin: float
    is_node: bool = False
    least_roundoffs: float = 32.0


@dataclass(frozen=True, eq=False)
class GraphTensor:
    """A tensor that depends on the judged ones.

    Attributes
    ----------
    name
        Name of the node, of its output, or of the tensor of the request.
    value
        Its numbers at the point, in float64; integers or truths of a node that returns them.
    choices
        Comparisons and orders behind integers and truths: a constant in their place must be far from each jump.
    """

    name: str
    value: Tensor
    choices: tuple[FixedValue, ...] = ()

    @property
    def is_discrete(self) -> bool:
        """Return whether it is of integers or truths."""
        return not self.value.is_floating_point()


class GraphBuilder:
    """Collects the nodes and the tensors of a request.

    Attributes
    ----------
    nodes, tensors
        Those of the request by name.
    fixed
        Values that are constant between jumps.
    place
        Line of source of the nodes that are added next, "file.py:12", or nothing.
    places
        Line of source of each node that has one.
    """

    def __init__(self) -> None:
        self.place = ""
        self.places: dict[str, str] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.tensors: dict[str, Tensor] = {}
        self.fixed: list[FixedValue] = []
        self._names: set[str] = set()
        self._owners: dict[str, str] = {}
        self._discrete: set[str] = set()
        self._masks_as_floats: dict[str, str] = {}
        # With the tensor itself, since the number of one that is gone may be given to another.
        self._constants: dict[tuple[int, ConstantKind], tuple[str, Tensor]] = {}

    def reserve_name(self, wanted: str, outputs: Sequence[str] = ()) -> str:
        """Return a name that nothing else has, nor its outputs: the wanted one, or that with a number."""
        name, count = wanted, 0
        while not self._names.isdisjoint(_list_names(name, outputs)):
            count += 1
            name = f"{wanted}_{count}"
        self._names.update(_list_names(name, outputs))
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

    def add_node(
        self, wanted_name: str, op: str, inputs: Any, attributes: Mapping[str, Any], outputs: Sequence[str] = ()
    ) -> str:
        """Add a node, and return its name; one with several outputs has the names of these behind its own."""
        name = self.reserve_name(wanted_name, outputs)
        self.nodes[name] = {"name": name, "op": op, "inputs": inputs, **attributes}
        self._owners.update({f"{name}.{output}": name for output in outputs})
        if self.place:
            self.places[name] = self.place
        return name

    def get_owner(self, name: str) -> str:
        """Return the node of an output, or a name itself."""
        return self._owners.get(name, name)

    def rename_node(self, name: str, wanted_name: str) -> str:
        """Rename a node to which nothing refers yet, by its name or that of an output; return the new name of either.

        Its other outputs are renamed with it.
        """
        owner = self.get_owner(name)
        node = self.nodes.pop(owner)
        self.places.pop(owner, None)
        outputs = [output[len(owner) + 1 :] for output, node_name in self._owners.items() if node_name == owner]
        self._names.difference_update(_list_names(owner, outputs))
        new = self.add_node(wanted_name, node.pop("op"), node.pop("inputs"), _drop_name(node), outputs)
        if new != owner:
            for output in outputs:
                del self._owners[f"{owner}.{output}"]
        return new + name[len(owner) :]

    def mark_discrete(self, name: str) -> None:
        """Note that a node, or an output of one, is of integers or truths, through which no gradient flows."""
        self._discrete.add(name)

    def freeze(self, value: GraphTensor) -> Tensor:
        """Return integers or truths as a constant, and note what decides them."""
        self.fixed.extend(value.choices)
        return value.value

    def add_mask_as_floats(self, name: str) -> str:
        """Return the name of a mask as floats, 1 where it is true and 0 elsewhere."""
        if name not in self._masks_as_floats:
            self._masks_as_floats[name] = self.add_node(f"{name}.floats", "where", [name, 1.0, 0.0], {})
        return self._masks_as_floats[name]

    def list_reachable(self, loss: str, *, by_gradient: bool = False) -> tuple[list[dict[str, Any]], set[str]]:
        """Return the nodes that reach the loss, in order, and the names of all that they read.

        Parameters
        ----------
        loss
            Name of the node of the loss.
        by_gradient
            True for those alone that a gradient reaches: none flows through integers and truths.
        """
        needed = {loss, self.get_owner(loss)}
        for name in reversed(self.nodes):
            if name in needed:
                read = set(_list_input_names(self.nodes[name]["inputs"]))
                needed |= read - self._discrete if by_gradient else read
                needed |= {self._owners[output] for output in needed & self._owners.keys()}
        return [node for name, node in self.nodes.items() if name in needed], needed


def _list_names(name: str, outputs: Sequence[str]) -> list[str]:
    return [name, *(f"{name}.{output}" for output in outputs)]


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
