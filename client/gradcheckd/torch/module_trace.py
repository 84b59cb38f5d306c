"""The exported program of a module: a functional graph of operators of ATen, with the tensors that it reads."""

import io
import logging
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

import torch
from torch import Tensor, nn

from gradcheckd.errors import describe_exception
from gradcheckd.torch.aten_nodes.operator_call import CONVERTERS
from gradcheckd.torch.export_internals import aten, export, keep_stack_frames
from gradcheckd.torch.gradient_stops import StopGradientMode
from gradcheckd.torch.module_arguments import ModuleArguments, name_outputs, select_outputs
from gradcheckd.torch.module_errors import ModuleImportError
from gradcheckd.torch.module_parts import find_parts, keep_buffers, list_parameters, strip_root

TRACE_FILE = __file__
"""File whose frames are none of the caller."""
_OWN_FOLDER = str(Path(__file__).parents[1])
TORCH_FOLDER = str(Path(torch.__file__).parent)
"""Folder whose frames are torch's own."""
_DATA_DEPENDENT = ("GuardOnDataDependentSymNode", "DataDependentOutputException", "data-dependent")


@dataclass(frozen=True)
class TracedModule:
    """A module as a graph.

    Attributes
    ----------
    graph
        Graph of torch.fx.
    module
        Module of the graph, with its nested graphs.
    sources
        Name and tensor of each placeholder of the graph: a parameter, a buffer, a constant or an input.
    outputs
        Names of the outputs, in the order of the graph.
    output_nodes
        Nodes of the outputs.
    """

    graph: Any
    module: Any
    sources: Mapping[str, "TracedTensor"]
    outputs: tuple[str, ...]
    output_nodes: tuple[Any, ...]


@dataclass(frozen=True)
class TracedTensor:
    """A tensor that a graph reads.

    Attributes
    ----------
    kind
        "parameter", "constant" (buffers as well) or "input".
    name
        Name in the module, or of the argument.
    tensor
        Its numbers.
    """

    kind: str
    name: str
    tensor: Any


class _Wrapper(nn.Module):
    """A module of tensors alone, which calls the traced one."""

    def __init__(
        self,
        function: Callable[..., Any],
        parts: Mapping[str, nn.Module],
        arguments: ModuleArguments,
        loss: Callable[..., Any] | None,
        select: Callable[[Any], tuple[Tensor, ...]],
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._function, self._arguments, self._loss = [function], arguments, loss
        self._select = select

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the chosen outputs."""
        args, kwargs = self._arguments.rebuild(tensors)
        with StopGradientMode():
            results = self._function[0](*args, **kwargs)
            if self._loss is not None:
                results = self._loss(results)
        return self._select(results)


def trace_module(
    function: Callable[..., Any],
    arguments: ModuleArguments,
    *,
    owner: nn.Module | None,
    loss: Callable[..., Any] | None,
    output: str | None,
) -> TracedModule:
    """Export a module or function.

    Parameters
    ----------
    function
        Module or function.
    arguments
        Its arguments.
    owner
        Module whose parameters the function reads, if it is no module itself.
    loss
        Function of the result, or None.
    output
        Name of the output to take alone, or None for all.

    Raises
    ------
    ModuleImportError
        The module cannot be traced.
    """
    parts = find_parts(function, owner)
    output_names: list[str] = []

    def select(results: Any) -> tuple[Tensor, ...]:
        outputs = select_outputs(name_outputs(results), output)
        # Not an attribute of the module: an export restores those.
        output_names[:] = outputs
        return tuple(outputs.values())

    wrapper = _Wrapper(function, parts, arguments, loss, select)
    wrapper.training = any(part.training for part in parts.values())
    _run_once(function, arguments, parts)
    inputs = tuple(tensor.detach() for tensor in arguments.tensors)
    _keep_frames(function)
    try:
        with _silence_torch(), torch.enable_grad():
            program = export.export(wrapper, inputs, strict=False).run_decompositions(_make_decompositions())
    except ModuleImportError:
        raise
    except Exception as error:
        raise _explain_failure(error) from error
    return _read_program(program, wrapper, arguments, parts, tuple(output_names))


def _run_once(function: Callable[..., Any], arguments: ModuleArguments, parts: Mapping[str, nn.Module]) -> None:
    """Run a module, so that its own errors are raised as they are, and what it caches are numbers, not a trace."""
    args, kwargs = arguments.rebuild([tensor.detach().clone() for tensor in arguments.tensors])
    with torch.no_grad(), keep_buffers(parts):
        function(*args, **kwargs)


def _keep_frames(function: Any) -> None:
    """Have torch record the lines of a function, as it does of each forward pass of a module."""
    if keep_stack_frames is not None:
        keep_stack_frames(function)


def _make_decompositions() -> Any:
    """Return torch's decompositions to Core ATen, without those of operators that have a conversion."""
    table = export.default_decompositions()
    for name in CONVERTERS:
        _, packet_name, *overloads = name.split(".")
        packet = getattr(aten, packet_name, None)
        for overload in overloads or (packet.overloads() if packet is not None else ()):
            table.pop(getattr(packet, overload, None), None)
    return table


@contextmanager
def _silence_torch() -> Generator[None]:
    """Keep the warnings, log lines and prints of an export from the caller, who gets an error if it fails."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _explain_failure(error: Exception) -> ModuleImportError:
    place = _find_place(error)
    where = f" at {place}" if place else ""
    kind, text = type(error).__name__, str(error)
    if any(word in kind or word in text for word in _DATA_DEPENDENT):
        return ModuleImportError(
            f"The module branches on the value of a tensor{where}: a graph has no control flow that depends on data. "
            "Check each branch by itself, with loss= or reference= a function of plain torch that takes it."
        )
    return ModuleImportError(
        f"The module cannot be traced{where}: {describe_exception(error)}. Give reference=, a function of plain torch "
        "that computes the same; the gradients of the module itself are then judged against it."
    )


def _find_place(error: BaseException) -> str:
    """Return the last line of source outside torch and this package, "file.py:12"."""
    frames = [
        frame
        for frame in extract_tb(error.__traceback__)
        if not frame.filename.startswith((_OWN_FOLDER, TORCH_FOLDER, "<"))
    ]
    if not frames:
        return ""
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"


def _read_program(
    program: Any,
    wrapper: _Wrapper,
    arguments: ModuleArguments,
    parts: Mapping[str, nn.Module],
    output_names: tuple[str, ...],
) -> TracedModule:
    kinds = export.graph_signature.InputKind
    inputs = iter(zip(arguments.names, arguments.tensors, strict=True))
    names = {id(tensor): name for name, tensor in list_parameters(parts).items()}
    sources: dict[str, TracedTensor] = {}
    for spec in program.graph_signature.input_specs:
        if spec.kind == kinds.USER_INPUT:
            name, tensor = next(inputs)
            sources[spec.arg.name] = TracedTensor("input", name, tensor)
        # Tokens order the checks of errors, which no output takes.
        elif spec.kind != kinds.TOKEN:
            tensor = _find_tensor(program, wrapper, spec.target)
            kind = "parameter" if spec.kind == kinds.PARAMETER else "constant"
            name = names.get(id(tensor), strip_root(spec.target))
            sources[spec.arg.name] = TracedTensor(kind, name, tensor)
    output_kind = export.graph_signature.OutputKind.USER_OUTPUT
    nodes = list(program.graph.nodes)[-1].args[0]
    chosen = [
        node for node, spec in zip(nodes, program.graph_signature.output_specs, strict=True) if spec.kind == output_kind
    ]
    return TracedModule(program.graph, program.graph_module, sources, output_names, tuple(chosen))


def _find_tensor(program: Any, wrapper: _Wrapper, target: str) -> Any:
    """Return a parameter, buffer or constant: that of the module itself, where it has one of this name."""
    value: Any = wrapper
    for part in target.split("."):
        value = getattr(value, part, None)
        if value is None:
            break
    if isinstance(value, Tensor):
        return value
    return program.constants[target] if target in program.constants else program.state_dict[target]
