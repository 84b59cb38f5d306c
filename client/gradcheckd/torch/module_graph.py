"""The walk over an exported program: every operator computed at the point, and those that matter made nodes.

Tensors that do not depend on the judged ones are computed as the module computes them, in its own datatype, and become
constants: masks, positions, frozen weights. The others are computed in float64. Integers and truths that depend on
judged tensors are nodes where an op takes them, and constants elsewhere. No gradient flows through them, as for
autograd.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import GraphBuilder, GraphTensor, UnsupportedError
from gradcheckd.torch.export_internals import OpOverload, map_fx_arguments, pytree
from gradcheckd.torch.missing_operators import MissingOperators
from gradcheckd.torch.module_trace import TracedModule
from gradcheckd.torch.node_names import find_source_line, name_nodes
from gradcheckd.torch.operator_conversion import MissingResult, Results, convert_operator, has_conversion
from gradcheckd.torch.operator_evaluation import (
    bind_arguments,
    compute_constant,
    guess_result,
    is_guess,
    list_dtypes,
    refuse_other_numbers,
    refuse_random,
)


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
    dtypes
        Datatypes in which the module computes those that depend on judged tensors.
    """

    builder: GraphBuilder
    judged: dict[str, GraphTensor]
    values: dict[str, Any] = field(default_factory=dict[str, Any])
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
        self._missing = MissingOperators(self._names)
        self.graph = ModuleGraph(GraphBuilder(), {})
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
        args, kwargs = map_fx_arguments((node.args, node.kwargs), self._get_value)
        if str(node.target).startswith("aten._assert"):
            self.graph.values[node.name] = None
            return
        try:
            self.graph.values[node.name] = self._compute(node, args, kwargs)
        except UnsupportedError as error:
            self._missing.add(node, str(error))
            self.graph.values[node.name] = guess_result(node)

    def _get_value(self, node: Any) -> Any:
        return self.graph.values[node.name]

    def _compute(self, node: Any, args: Any, kwargs: Any) -> Any:
        if getattr(node.target, "__name__", "") == "getitem":
            return self._get_item(*args)
        leaves = pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, MissingResult) for leaf in leaves):
            raise UnsupportedError("it takes a result of another operator that has no counterpart")
        if not any(isinstance(leaf, GraphTensor) for leaf in leaves):
            return compute_constant(node.target, args, kwargs)
        if not isinstance(node.target, OpOverload):
            raise UnsupportedError("control flow or an operation of higher order")
        refuse_other_numbers(node.meta.get("val"))
        args, kwargs = pytree.tree_map(_move_to_processor, (args, kwargs))
        arguments = bind_arguments(node.target, args, kwargs)
        refuse_random(node.target, arguments)
        if any(map(is_guess, leaves)):
            if not has_conversion(node.target, arguments):
                raise UnsupportedError("there is no op for it")
            return guess_result(node)
        builder = self.graph.builder
        builder.place = find_source_line(node)
        self.graph.dtypes |= list_dtypes(node.meta.get("val"))
        return convert_operator(builder, node.target, arguments, self._names[node.name])

    def _get_item(self, values: Any, index: Any) -> Any:
        """Return one of several results; what decides one that is a constant counts from here on."""
        value = values[index]
        if isinstance(values, Results) and isinstance(value, Tensor):
            self.graph.builder.fixed.extend(values.find_choices())
        return value

    def refuse_unsupported(self) -> None:
        """Raise one error for all nodes that have no counterpart."""
        self._missing.refuse(self._traced.graph)


def _move_to_processor(value: Any) -> Any:
    """Return a constant on the processor, where the graph is computed."""
    return value.cpu() if isinstance(value, Tensor) else value
