"""The walk over an exported program: every operator computed at the point, and those that matter made nodes.

Tensors that do not depend on the judged ones are computed as the module computes them, in its own datatype, and become
constants: masks, positions, frozen weights. The others are computed in float64. Integers and booleans that depend on
judged tensors stay fixed at the point, as they do for autograd.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.fixed_values import (
    INDEX_MARGINS,
    ORDER_MARGINS,
    find_fixed_margin,
)
from gradcheckd.torch.aten_nodes.graph_builder import GraphBuilder, GraphTensor, UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, call_operator, find_converter
from gradcheckd.torch.export_internals import OpOverload, map_fx_arguments, pytree
from gradcheckd.torch.module_errors import UnsupportedOperator, report_unsupported
from gradcheckd.torch.module_trace import TracedModule
from gradcheckd.torch.node_names import find_source_line, get_module_path, name_nodes
from gradcheckd.torch.operator_evaluation import (
    bind_arguments,
    clear_memory,
    compute_constant,
    guess_result,
    list_dtypes,
    refuse_infinities,
    refuse_random,
    refuse_unfit,
    widen,
)


@dataclass(frozen=True)
class FixedValue:
    """A value that depends on judged tensors and stays fixed at the point.

    Attributes
    ----------
    operator
        Operator that made it.
    place
        Line of source, "file.py:12", or the name of the node.
    margin
        Distance of the point from a jump of the value, relative to the numbers compared.
    """

    operator: str
    place: str
    margin: float


@dataclass
class ModuleGraph:
    """The nodes of a module, and its results.

    Attributes
    ----------
    builder
        Nodes and tensors.
    judged
        Names of the judged tensors, with their numbers.
    values
        Result of each node of torch.fx by its name.
    steps
        Calls whose results stay fixed, by the name of the node of torch.fx.
    fixed
        Values that stay fixed.
    dtypes
        Datatypes in which the module computes those that depend on judged tensors.
    """

    builder: GraphBuilder
    judged: dict[str, GraphTensor]
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    steps: dict[str, OperatorCall] = field(default_factory=dict[str, OperatorCall])
    fixed: list[FixedValue] = field(default_factory=list[FixedValue])
    dtypes: set[torch.dtype] = field(default_factory=set[torch.dtype])


def build_graph(traced: TracedModule, judged: Mapping[str, Tensor]) -> ModuleGraph:
    """Convert an exported program.

    Parameters
    ----------
    traced
        Program.
    judged
        Numbers of the tensors whose gradients are judged, by the name of their placeholder.

    Raises
    ------
    ModuleImportError
        Operators without a counterpart, all of them at once.
    """
    walk = _Walk(traced, judged)
    needed = _list_needed(traced)
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.name in needed:
            walk.visit(node)
        elif node.op == "get_attr":
            walk.graph.values[node.name] = getattr(traced.module, node.target)
    walk.refuse_unsupported()
    return walk.graph


def _list_needed(traced: TracedModule) -> set[str]:
    """Return the names of the nodes that an output depends on; others update buffers, or assert."""
    needed = {node.name for node in traced.output_nodes}
    for node in reversed(list(traced.graph.nodes)):
        if node.name in needed:
            needed.update(source.name for source in node.all_input_nodes)
    return needed


class _Walk:
    """One pass over the nodes."""

    def __init__(self, traced: TracedModule, judged: Mapping[str, Tensor]) -> None:
        self._traced = traced
        self._names = name_nodes(traced.graph)
        self._unsupported: dict[tuple[str, str], list[Any]] = defaultdict(list)
        self._new_nodes: set[str] = set()
        builder = GraphBuilder()
        self.graph = ModuleGraph(builder, {})
        for placeholder, source in traced.sources.items():
            self.graph.values[placeholder] = source.tensor
            if placeholder in judged:
                self.graph.values[placeholder] = self._get_judged(source.name, judged[placeholder])

    def _get_judged(self, name: str, numbers: Tensor) -> GraphTensor:
        """Return a judged tensor, one for all placeholders of its name, as of shared weights."""
        if name not in self.graph.judged:
            self.graph.judged[name] = GraphTensor(self.graph.builder.add_tensor(name, numbers), numbers)
        return self.graph.judged[name]

    def visit(self, node: Any) -> None:
        """Compute a node, and convert it if it depends on judged tensors."""
        arguments = map_fx_arguments((node.args, node.kwargs), self._get_value)
        args, kwargs = arguments
        if str(node.target).startswith("aten._assert"):
            self.graph.values[node.name] = None
            return
        try:
            self.graph.values[node.name] = self._compute(node, args, kwargs)
        except UnsupportedError as error:
            self._unsupported[(str(node.target), str(error))].append(node)
            self.graph.values[node.name] = guess_result(node)

    def _get_value(self, node: Any) -> Any:
        return self.graph.values[node.name]

    def _compute(self, node: Any, args: Any, kwargs: Any) -> Any:
        if getattr(node.target, "__name__", "") == "getitem":
            return self._get_item(node, *args)
        leaves = pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, MissingResult) for leaf in leaves):
            raise UnsupportedError("it takes a result of another operator that has no counterpart")
        if not any(isinstance(leaf, GraphTensor) for leaf in leaves):
            return compute_constant(node, args, kwargs)
        if not isinstance(node.target, OpOverload):
            raise UnsupportedError("control flow or an operation of higher order")
        args, kwargs = pytree.tree_map(_move_to_processor, (args, kwargs))
        return self._convert(node, bind_arguments(node.target, args, kwargs))

    def _get_item(self, node: Any, values: Any, index: Any) -> Any:
        value = values[index]
        margin = INDEX_MARGINS.get(str(getattr(node.args[0].target, "overloadpacket", "")))
        if margin and index == 1 and isinstance(self.graph.values.get(node.args[0].name), _Results):
            results: Any = self.graph.values[node.args[0].name]
            self._fix(node.args[0], margin(results.arguments))
        return value

    def _convert(self, node: Any, arguments: dict[str, Any]) -> Any:
        operator = node.target
        name = str(operator.overloadpacket)
        refuse_random(operator, arguments)
        result = clear_memory(operator, call_operator(operator, widen(arguments)))
        if margin := find_fixed_margin(operator, arguments):
            self._fix(node, margin(arguments))
            self.graph.steps[node.name] = OperatorCall(
                operator, self.graph.builder, self._names[node.name], arguments, result
            )
            return result
        refuse_unfit(result)
        self.graph.dtypes |= list_dtypes(node.meta.get("val"))
        refuse_infinities(name, arguments)
        converter = find_converter(operator)
        if converter is None:
            raise UnsupportedError("there is no op for it")
        if margin := ORDER_MARGINS.get(name):
            self._fix(node, margin(arguments))
        wanted = self._names[node.name]
        older_count = len(self.graph.builder.nodes)
        converted = converter(OperatorCall(operator, self.graph.builder, wanted, arguments, result))
        self._new_nodes = set(list(self.graph.builder.nodes)[older_count:])
        return self._name_results(wanted, converted, result, arguments)

    def _fix(self, node: Any, margin: float) -> None:
        place = find_source_line(node) or self._names[node.name]
        self.graph.fixed.append(FixedValue(str(node.target.overloadpacket), place, margin))

    def _name_results(self, wanted: str, converted: Converted, result: Any, arguments: dict[str, Any]) -> Any:
        if isinstance(converted, str):
            return GraphTensor(self._rename(converted, wanted), result)
        results = [
            GraphTensor(self._rename(name, f"{wanted}.{index}" if index else wanted), part)
            if name is not None
            else part
            if isinstance(part, Tensor) and not (part.is_floating_point() and part.numel())
            else MissingResult(part)
            for index, (name, part) in enumerate(zip(converted, result, strict=True))
        ]
        return _Results(results, arguments)

    def _rename(self, name: str, wanted: str) -> str:
        """Give a node the name that its result wants, unless it is an older one that was handed on."""
        return self.graph.builder.rename_node(name, wanted) if name in self._new_nodes else name

    def refuse_unsupported(self) -> None:
        """Raise one error for all nodes that have no counterpart."""
        if not self._unsupported:
            return
        operators = [
            UnsupportedOperator(
                operator,
                reason,
                tuple(self._names[node.name] for node in nodes),
                tuple(dict.fromkeys(filter(None, map(find_source_line, nodes)))),
            )
            for (operator, reason), nodes in self._unsupported.items()
        ]
        operators.sort(key=lambda operator: -operator.count)
        wrong_nodes = [node for nodes in self._unsupported.values() for node in nodes]
        raise report_unsupported(operators, _find_checkable(self._traced.graph, wrong_nodes))


@dataclass(frozen=True, eq=False)
class MissingResult:
    """A result without a counterpart.

    Attributes
    ----------
    value
        Its numbers.
    """

    value: Tensor


class _Results(list[Any]):
    """Several results of an operator, with its arguments."""

    def __init__(self, results: Sequence[Any], arguments: dict[str, Any]) -> None:
        super().__init__(results)
        self.arguments = arguments


def _move_to_processor(value: Any) -> Any:
    """Return a constant on the processor, where the graph is computed."""
    return value.cpu() if isinstance(value, Tensor) else value


def _find_checkable(graph: Any, wrong_nodes: Sequence[Any]) -> list[str]:
    """Return the paths of the largest submodules none of whose nodes is wrong, in the order of the graph."""
    wrong = {path for node in wrong_nodes for path in _list_ancestors(get_module_path(node))}
    good: dict[str, None] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        path = next((path for path in _list_ancestors(get_module_path(node)) if path not in wrong), None)
        if path:
            good[path] = None
    return list(good)


def _list_ancestors(path: str) -> list[str]:
    """Return a path and those above it, the shortest first; the root is ""."""
    parts = path.split(".") if path else []
    return ["", *(".".join(parts[: count + 1]) for count in range(len(parts)))]
