"""The request that an import writes: nodes, tensors and weights, within the limits."""

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from schemas.problem_details import quote_name
from schemas.tensor import Tensor
from service.checks.common.limits import Limits
from service.checks.importing.import_errors import LimitError, OperatorUseError
from service.checks.importing.naming import NameTable
from service.checks.importing.values import Kind, Known, Section, Shape, Symbol, Value
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.composite import SeveralOutputsOp
from service.numerics.ops.op import Op, ShapeError

Operand = Value | float | None
Operands = Sequence[Operand | Sequence[Operand]]


@dataclass(frozen=True)
class _WrittenNode:
    """A node whose operands are values still, not names."""

    op: str
    operands: Operands
    attributes: dict[str, Any]
    symbol: Symbol
    outputs: tuple[str, ...] = ()


@dataclass
class GraphParts:
    """The parts of a request.

    Attributes
    ----------
    nodes
        Nodes with the loss last.
    tensors, weights
        Tensors and weights by name.
    drawn_names
        Names of tensors with random values.
    judged_inputs
        Names of those of floats, by which the loss has a gradient.
    names
        Names in the request by the identity of the value.
    """

    nodes: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    drawn_names: list[str] = field(default_factory=list[str])
    judged_inputs: list[str] = field(default_factory=list[str])
    names: dict[int, str] = field(default_factory=dict[int, str])


class GraphWriter:
    """A model of the service, in the making.

    Parameters
    ----------
    limits
        Limits of the request.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._nodes: list[_WrittenNode] = []
        self._sections: dict[int, Section] = {}
        self._counted = dict[int, Known]()
        self._elements = 0
        self.base_name = "value"
        self.has_low_scores = False
        """True once a mask has put low scores in place of minus infinities."""
        self.hides_rows = False
        """True once a mask may have put low scores in place of all of a row."""
        self._shown_parts = dict[int, tuple[Symbol, Value]]()

    @property
    def node_count(self) -> int:
        """Return the number of nodes so far."""
        return len(self._nodes)

    def emit(self, op_name: str, operands: Operands, **attributes: Any) -> Symbol:
        """Append a node, and return its result.

        Parameters
        ----------
        op_name
            Op of the service.
        operands
            Operands in the order of the slots, None for one that is left out; a sequence for several in one slot.
        attributes
            Attributes of the op.

        Raises
        ------
        OperatorUseError
            The op does not take these shapes.
        LimitError
            The model would be too large.
        """
        op = OP_REGISTRY[op_name](**attributes)
        shapes = self._list_operand_shapes(op, operands)
        with self._explain_shapes(op_name, shapes):
            shape = op.infer_output_shape(*shapes)
        symbol = Symbol(f"{self.base_name}_{op_name}", shape, cast("Kind", op.output_kind))
        self._append(_WrittenNode(op_name, operands, attributes, symbol), [shape])
        return symbol

    def emit_several(self, op_name: str, operands: Operands, **attributes: Any) -> dict[str, Symbol]:
        """Append a node with several outputs, and return these by name; parameters and errors as for `emit`."""
        op = OP_REGISTRY[op_name](**attributes)
        assert isinstance(op, SeveralOutputsOp)
        shapes = self._list_operand_shapes(op, operands)
        with self._explain_shapes(op_name, shapes):
            by_output = op.infer_output_shapes(*shapes)
        owner = Symbol(self.base_name, ())
        self._append(_WrittenNode(op_name, operands, attributes, owner, tuple(by_output)), list(by_output.values()))
        return {
            output: Symbol(owner.name, shape, cast("Kind", op.output_kinds.get(output, "float")), owner, output)
            for output, shape in by_output.items()
        }

    def _append(self, node: _WrittenNode, shapes: Sequence[Shape]) -> None:
        for shape in shapes:
            if len(shape) > self.limits.dimensions:
                raise OperatorUseError(f"has {len(shape)} dimensions; at most {self.limits.dimensions} are taken")
        if len(self._nodes) >= self.limits.nodes:
            raise LimitError(f"the model would have more than {self.limits.nodes} nodes")
        for shape in shapes:
            self._count_elements(shape)
        self._nodes.append(node)

    def mark_as_tensor(self, known: Value) -> Value:
        """Put an initialiser among the tensors, not among the weights, and return it."""
        if isinstance(known, Known):
            self._sections.setdefault(id(known), "tensors")
            self._count_tensor(known)
        return known

    def rename(self, symbol: Symbol, name: str, first_node: int) -> None:
        """Name a result after an output of the file, if its node is not before a position."""
        if any(node.symbol is symbol for node in self._nodes[first_node:]):
            symbol.name = name

    def mark_hidden_parts(self, symbol: Symbol, shown: Value) -> None:
        """Note that a value is low where truths do not hold, in place of minus infinity."""
        self.has_low_scores = True
        self._shown_parts[id(symbol)] = symbol, shown

    def get_shown_part(self, symbol: Symbol) -> Value | None:
        """Return the truths that do not hold where a value is low in place of minus infinity; None for other values."""
        return self._shown_parts[id(symbol)][1] if id(symbol) in self._shown_parts else None

    def _list_operand_shapes(self, op: Op, operands: Operands) -> list[Shape | None]:
        """Count the tensors among the operands, check their kinds, and return a shape for each slot."""
        flat = flatten_operands(operands)
        for position, operand in enumerate(flat):
            if isinstance(operand, Known) and to_number(operand) is None:
                self._count_tensor(operand)
            _check_kind(op, position, operand)
        shapes = [_get_shape(operand) for operand in flat]
        return [*shapes, *[None] * (len(op.slots) - len(shapes))]

    @contextmanager
    def _explain_shapes(self, op_name: str, shapes: Sequence[Shape | None]) -> Generator[None]:
        """Raise the refusal of an op as that of the operator."""
        try:
            yield
        except ShapeError as error:
            given = ", ".join(str(list(shape)) for shape in shapes if shape is not None)
            raise OperatorUseError(f"becomes {op_name}, which takes {error}; the shapes are {given}") from None

    def _count_tensor(self, known: Known) -> None:
        """Count known numbers that become a tensor, once."""
        if id(known) in self._counted:
            return
        if len(self._counted) >= self.limits.names:
            raise LimitError(f"the model would have more than {self.limits.names} tensors and weights")
        if known.is_float and not np.isfinite(known.array).all():
            raise OperatorUseError(
                f"uses {quote_name(known.name)}, which holds NaN or an infinity; only finite numbers are taken"
            )
        self._count_elements(known.shape)
        # The value is kept: its identity must not pass to another one.
        self._counted[id(known)] = known

    def _count_elements(self, shape: Shape) -> None:
        self._elements += math.prod(shape)
        if self._elements > self.limits.elements:
            raise LimitError(f"the model would hold more than {self.limits.elements} elements at once")

    def finish(self, loss: Symbol) -> GraphParts:
        """Write the nodes that reach a loss, and what they read."""
        needed = self._list_needed(loss)
        parts, table = GraphParts(), NameTable()
        outputs, differentiable = _list_used_outputs(needed), _list_differentiable(needed)
        names = parts.names
        for node in needed:
            for operand in flatten_operands(node.operands):
                if isinstance(operand, Known) and to_number(operand) is None and id(operand) not in names:
                    names[id(operand)] = table.make(operand.name)
                    self._add_tensor(
                        parts, names[id(operand)], operand, is_differentiable=id(operand) in differentiable
                    )
        for node in needed:
            names[id(node.symbol)] = table.make(node.symbol.name, node.outputs)
            for symbol in outputs.get(id(node.symbol), ()):
                names[id(symbol)] = f"{names[id(node.symbol)]}.{symbol.output}"
            inputs = [_write_operand(operand, names) for operand in node.operands]
            while inputs[-1] is None:
                inputs.pop()
            parts.nodes.append({"name": names[id(node.symbol)], "op": node.op, "inputs": inputs, **node.attributes})
        return parts

    def _list_needed(self, loss: Symbol) -> list[_WrittenNode]:
        """Return the nodes up to the loss that reach it, in their order."""
        needed, wanted = list[_WrittenNode](), {id(loss)}
        for node in reversed(self._nodes):
            if id(node.symbol) in wanted:
                needed.append(node)
                wanted.update(map(_identify_source, flatten_operands(node.operands)))
        return needed[::-1]

    def _add_tensor(self, parts: GraphParts, name: str, known: Known, *, is_differentiable: bool) -> None:
        is_weight = known.origin == "weight" and is_differentiable
        section = self._sections.get(id(known), "weights" if is_weight else "tensors")
        array = known.array if known.array.dtype.kind in "fb" else known.array.astype(np.int64)
        target = parts.weights if section == "weights" else parts.tensors
        target[name] = Tensor(array, known.wire_datatype, is_integral=False)
        if known.origin == "drawn":
            parts.drawn_names.append(name)
            if known.is_float and is_differentiable:
                parts.judged_inputs.append(name)


def flatten_operands(operands: Operands) -> list[Operand]:
    """Return the operands of all slots."""
    flat: list[Operand] = []
    for operand in operands:
        flat.extend(operand if isinstance(operand, Sequence) else [operand])
    return flat


def to_number(operand: Known) -> float | None:
    """Return a constant without axes as a number of a node's inputs; None for other values."""
    if operand.origin != "constant" or operand.shape or operand.array.dtype.kind not in "fiu":
        return None
    number = float(operand.array)
    return number if math.isfinite(number) else None


def _list_differentiable(nodes: Sequence[_WrittenNode]) -> set[int]:
    """Return the identities of the values by which the last node has a gradient.

    None flows through integers and truth values, which comparisons return.
    """
    reached = {id(nodes[-1].symbol)}
    for node in reversed(nodes):
        if id(node.symbol) in reached and node.symbol.is_float:
            for operand in flatten_operands(node.operands):
                if isinstance(operand, Known | Symbol) and operand.is_float:
                    reached.add(_identify_source(operand))
    return reached


def _list_used_outputs(nodes: Sequence[_WrittenNode]) -> dict[int, list[Symbol]]:
    """Return the outputs that nodes read of those with several, by the identity of the result of the latter."""
    outputs: dict[int, list[Symbol]] = {}
    for node in nodes:
        for operand in flatten_operands(node.operands):
            if isinstance(operand, Symbol) and operand.owner is not None:
                outputs.setdefault(id(operand.owner), []).append(operand)
    return outputs


def _write_operand(operand: Operand | Sequence[Operand], names: dict[int, str]) -> Any:
    if isinstance(operand, Sequence):
        return [_write_operand(part, names) for part in operand]
    if isinstance(operand, Symbol):
        return names[id(operand)]
    if isinstance(operand, Known):
        number = to_number(operand)
        return names[id(operand)] if number is None else number
    return operand


def _identify_source(operand: Operand) -> int:
    """Return the identity of a value, or of the node whose output it is."""
    return id(operand.owner if isinstance(operand, Symbol) and operand.owner is not None else operand)


_KIND_NAMES = {"float": "floats", "index": "integers", "bool": "truth values"}


def _check_kind(op: Op, position: int, operand: Operand) -> None:
    """Refuse a value of another kind than its slot takes.

    Raises
    ------
    OperatorUseError
        With both kinds.
    """
    if not isinstance(operand, Known | Symbol) or (isinstance(operand, Known) and to_number(operand) is not None):
        return
    slot = op.get_slot(position)
    if operand.kind in slot.kinds:
        return
    taken = " or ".join(_KIND_NAMES[kind] for kind in slot.kinds)
    raise OperatorUseError(
        f"becomes {op.name}, which takes {taken} as {slot.name}; it gets {_KIND_NAMES[operand.kind]}"
    )


def _get_shape(operand: Operand) -> Shape | None:
    return None if operand is None else () if isinstance(operand, int | float) else operand.shape
