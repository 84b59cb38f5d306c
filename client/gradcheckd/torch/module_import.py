"""Import of modules and functions of torch as requests."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradcheckd.errors import RequestError
from gradcheckd.torch.aten_nodes.graph_builder import GraphTensor
from gradcheckd.torch.module_arguments import ModuleArguments
from gradcheckd.torch.module_errors import ModuleImportError
from gradcheckd.torch.module_graph import ModuleGraph, build_graph
from gradcheckd.torch.module_parts import find_parts, list_buffers, list_parameters
from gradcheckd.torch.module_request import Request
from gradcheckd.torch.module_trace import TracedModule, trace_module
from gradcheckd.torch.operator_conversion import MissingResult

ARITHMETICS = {torch.float64: "FP64", torch.float32: "FP32", torch.float16: "FP16", torch.bfloat16: "BF16"}
"""Names of the datatypes in which a module may compute, the most precise first."""
_SMALLEST_COTANGENT = 2.0**-6
"""Smaller factors would hide an output; this one is a normal number in float16, too."""


def from_module(
    module_or_function: Callable[..., Any],
    args: Any,
    kwargs: Mapping[str, Any] | None = None,
    *,
    loss: Callable[..., Any] | None = None,
    output: str | None = None,
    seed: int = 0,
) -> Request:
    """Import a module or function of torch as a request for `gradcheckd.check`.

    The module is traced by `torch.export` and is not changed. The graph is in float64, at the numbers of the module's
    own parameters and inputs.

    Parameters
    ----------
    module_or_function
        `torch.nn.Module`, or a function of tensors. Modules that the function captures give their parameters, too.
    args, kwargs
        Arguments: a tensor or a sequence, and a mapping. The judged inputs are those with `requires_grad`, or, if none
        has it, all tensors of floats. Judged parameters are those that require a gradient.
    loss
        Function of the result that returns the loss; by default each output that is no scalar is multiplied by random
        numbers and summed, and the sums of all outputs are added.
    output
        Name of the one output to take: its key, its position, or the path of both, such as "hidden.0".
    seed
        Seed of the random numbers.

    Raises
    ------
    ModuleImportError
        The module cannot be imported. The error lists every operator without a counterpart.
    """
    arguments = ModuleArguments.bind(module_or_function, args, kwargs)
    traced = trace_module(module_or_function, arguments, owner=None, loss=loss, output=output)
    return make_request(traced, arguments, find_parts(module_or_function, None), seed)


def make_request(
    traced: TracedModule, arguments: ModuleArguments, parts: Mapping[str, nn.Module], seed: int
) -> Request:
    """Make the request of a traced module.

    Parameters
    ----------
    traced
        Module or its reference.
    arguments
        Arguments of the module.
    parts
        Modules that hold the parameters: their numbers are the point, also where a reference was traced.
    seed
        Seed of the cotangents.
    """
    parameters, buffers = list_parameters(parts), list_buffers(parts)
    judged = find_judged(arguments, parameters)
    if not judged:
        raise ModuleImportError(
            "There is nothing to judge: no parameter requires a gradient, and no input is a tensor of floats."
        )
    _refuse_unfit(judged)
    graph = build_graph(_take_state(traced, parameters, buffers), _choose_points(traced, judged))
    loss, cotangents = _add_loss(traced, graph, seed)
    return _assemble(graph, loss, cotangents, judged, parameters)


def find_judged(arguments: ModuleArguments, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose gradients are judged, by name: parameters, then inputs."""
    judged = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    for name, tensor, is_judged in zip(arguments.names, arguments.tensors, arguments.judged_flags, strict=True):
        if is_judged:
            if name in judged:
                raise RequestError(f"A parameter and an input are both named {name!r}; rename the argument.")
            judged[name] = tensor
    return judged


def _refuse_unfit(judged: Mapping[str, Tensor]) -> None:
    for name, tensor in judged.items():
        if tensor.is_floating_point() and tensor.dtype not in ARITHMETICS:
            raise ModuleImportError(
                f"{name} is of {tensor.dtype}; a judged tensor is of {', '.join(ARITHMETICS.values())}."
            )
        if tensor.is_complex():
            raise ModuleImportError(f"{name} is complex; give its real and imaginary parts as two tensors.")
        if not tensor.numel():
            raise ModuleImportError(f"{name} has no elements: leave it out by requires_grad of the other inputs.")
        if not bool(torch.isfinite(tensor).all()):
            raise ModuleImportError(f"{name} holds NaN or infinities.")


def _choose_points(traced: TracedModule, judged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the numbers of the judged placeholders."""
    return {
        placeholder: judged[source.name].detach().to("cpu", torch.float64)
        for placeholder, source in traced.sources.items()
        if source.kind != "constant" and source.name in judged
    }


def _take_state(traced: TracedModule, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> TracedModule:
    """Give the parameters and buffers of a reference the numbers of those of the module."""
    sources = dict(traced.sources)
    for placeholder, source in traced.sources.items():
        if source.kind == "parameter":
            _refuse_other_parameter(source.name, source.tensor, parameters)
            sources[placeholder] = replace(source, tensor=parameters[source.name].detach())
        elif source.kind == "constant" and source.name in buffers:
            sources[placeholder] = replace(source, tensor=buffers[source.name].detach())
    return replace(traced, sources=sources)


def _refuse_other_parameter(name: str, tensor: Tensor, parameters: Mapping[str, Tensor]) -> None:
    """Refuse a parameter of a reference that the module has not, or has in another shape."""
    if name not in parameters:
        known = ", ".join(parameters) or "none"
        raise RequestError(f"The reference has a parameter {name!r}; those of the module are: {known}.")
    if parameters[name].shape != tensor.shape:
        raise RequestError(
            f"The parameter {name!r} has shape {list(tensor.shape)} in the reference, and "
            f"{list(parameters[name].shape)} in the module."
        )


def _add_loss(traced: TracedModule, graph: ModuleGraph, seed: int) -> tuple[str, dict[str, Tensor | None]]:
    """Add the nodes of the loss; return its name, and the cotangent of each output."""
    generator = torch.Generator().manual_seed(seed)
    graph.builder.place = ""
    outputs = [(name, _get_output(graph, node)) for name, node in zip(traced.outputs, traced.output_nodes, strict=True)]
    is_single = len(outputs) == 1
    terms: list[str] = []
    cotangents: dict[str, Tensor | None] = {}
    for name, output in outputs:
        if is_single and _get_size(output) == 1 and not _get_number(output).ndim:
            cotangents[name] = None
        else:
            cotangents[name] = draw_cotangent(list(_get_number(output).shape), generator)
        if isinstance(output, GraphTensor):
            terms.append(_contract(graph, name, output, cotangents[name]))
    if not terms:
        raise ModuleImportError("No output depends on a parameter or input that is judged.")
    loss = terms[0]
    for term in terms[1:]:
        loss = graph.builder.add_node("loss", "add", [loss, term], {})
    return loss, cotangents


def _get_output(graph: ModuleGraph, node: Any) -> Any:
    value = graph.values[node.name]
    return _get_statistic(node, value) if isinstance(value, MissingResult) else value


def _get_statistic(node: Any, result: MissingResult) -> Tensor:
    """Return a mean or deviation that comes beside a normalisation: torch gives it no gradient."""
    operator = str(node.args[0].target)
    if "layer_norm" in operator or "batch_norm" in operator:
        return result.value
    raise ModuleImportError(f"An output is a result of {operator} that has no counterpart.")


def _contract(graph: ModuleGraph, name: str, output: GraphTensor, cotangent: Tensor | None) -> str:
    if not bool(torch.isfinite(output.value).all()):
        raise ModuleImportError(f"The output {name!r} holds NaN or infinities at the point.")
    if cotangent is None:
        # The loss is a node, and not a tensor or one output of a node.
        if output.name not in graph.builder.nodes:
            return graph.builder.add_node("loss", "reshape", [output.name], {"shape": []})
        return output.name
    factor = graph.builder.add_tensor(f"cotangent.{name}", cotangent)
    product = graph.builder.add_node(f"{name}.product", "mul", [output.name, factor], {})
    return graph.builder.add_node(f"{name}.loss", "sum", [product], {})


def _get_number(output: Any) -> Tensor:
    return output.value if isinstance(output, GraphTensor) else output


def _get_size(output: Any) -> int:
    return _get_number(output).numel()


def draw_cotangent(shape: list[int], generator: torch.Generator) -> Tensor:
    """Draw the factors of an output: numbers that bfloat16 and float16 hold exactly, none near 0."""
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64).bfloat16().double()
    small = numbers.abs() < _SMALLEST_COTANGENT
    return torch.where(small, torch.copysign(torch.tensor(_SMALLEST_COTANGENT, dtype=torch.float64), numbers), numbers)


def _assemble(
    graph: ModuleGraph,
    loss: str,
    cotangents: Mapping[str, Tensor | None],
    judged: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
) -> Request:
    _refuse_ties(graph)
    nodes, needed = graph.builder.list_reachable(loss)
    # The last node of a request is the loss.
    nodes.sort(key=lambda node: node["name"] == loss)
    _, differentiable = graph.builder.list_reachable(loss, by_gradient=True)
    used = [name for name in judged if name in graph.judged and graph.judged[name].name in differentiable]
    if not used:
        raise ModuleImportError(
            "No output depends on a judged parameter or input otherwise than by integers or truths."
        )
    tensors = {name: value.numpy() for name, value in graph.builder.tensors.items() if name in needed}
    weights = {name: tensors.pop(name) for name in used if name in parameters}
    unused = {name: tensor.detach().double().numpy(force=True) for name, tensor in judged.items() if name not in used}
    return Request(
        weights=weights,
        tensors=tensors,
        fields={"model": {"nodes": nodes}, "with_respect_to": used},
        cotangents=dict(cotangents),
        unused=unused,
        fixed=tuple(value for value in graph.builder.fixed if value.least_roundoffs),
        places={
            node["name"]: graph.builder.places[node["name"]] for node in nodes if node["name"] in graph.builder.places
        },
        arithmetic=_find_arithmetic(graph, judged),
    )


def _find_arithmetic(graph: ModuleGraph, judged: Mapping[str, Tensor]) -> str:
    dtypes = graph.dtypes | {tensor.dtype for tensor in judged.values()}
    return ARITHMETICS[max(dtypes, key=list(ARITHMETICS).index)]


def _refuse_ties(graph: ModuleGraph) -> None:
    """Refuse a point at which a fixed value jumps."""
    for value in graph.builder.fixed:
        if value.margin == 0 or math.isnan(value.margin):
            raise ModuleImportError(
                f"{value.operator} at {value.place} jumps at this very point, where numbers are equal, so that the "
                "gradient is a convention. Move the inputs a little, or exclude the input by requires_grad of others."
            )
