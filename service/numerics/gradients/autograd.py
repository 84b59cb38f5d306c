"""The autograd route: the same model in PyTorch, differentiated by it. The one module that imports torch."""

from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from service.numerics.graph import Graph, InvalidModelError, ModelError, Node, Operand, Values, is_index
from service.numerics.ops.op import Slot
from service.numerics.pausing import pause, pausing
from service.numerics.quoting import quote
from service.numerics.tiles import Array


@dataclass(frozen=True)
class Autograd:
    """The loss, and its gradient by name."""

    loss: Array
    gradients: Values


@cache
def _torch() -> Any:
    # Imported when first asked for: it takes seconds, and who asks for no gradient of it should not wait.
    import torch

    torch.set_num_threads(1)
    return torch


def differentiate(
    graph: Graph, leaves: Mapping[str, Array], names: Collection[str] | None = None, dtype: str | None = None
) -> Autograd:
    """Differentiate the loss by PyTorch in the dtype of the leaves.

    Parameters
    ----------
    graph
        The model; each op's `twin` builds it.
    leaves
        Every tensor and weight, (1, ...), in one dtype.
    names
        Leaves and nodes to differentiate by; all by default.
    dtype
        PyTorch's name of the dtype to run in; that of the leaves by default.

    Raises
    ------
    InvalidModelError
        Where PyTorch refuses an op, or has no derivative of it.
    """
    wanted = [name for name in graph.shapes if name not in graph.kinds] if names is None else list(names)
    torch = _torch()
    values: dict[str, Any] = {}
    with torch.enable_grad():
        for name, leaf in pausing(leaves.items()):
            values[name] = _leaf(torch, leaf, dtype).requires_grad_(name in wanted)
        for node in pausing(graph.nodes):
            operands = [
                _operand(torch, operand, slot, values) for operand, slot in zip(node.operands, node.slots, strict=True)
            ]
            with _refusals(graph, node):
                values[node.name] = _of_its_own(node.op.twin(torch, *operands), operands)
            # Called when its gradient has come, on the way back.
            values[node.name].register_hook(_pause)
        with _refusals(graph):
            found = torch.autograd.grad(
                values[graph.loss].sum(), [values[name] for name in wanted], allow_unused=True, materialize_grads=True
            )
    gradients = {name: _numpy(torch, gradient) for name, gradient in zip(wanted, found, strict=True)}
    return Autograd(_numpy(torch, values[graph.loss]), gradients)


def _pause(gradient: Any) -> None:
    pause()


@contextmanager
def _refusals(graph: Graph, node: Node | None = None) -> Generator[None]:
    """Name the node that PyTorch refuses, and say in its words why."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]
        what = "the backward pass" if node is None else f"node {quote(node.name)} ({node.op.name})"
        position = None if node is None else next(i for i, each in enumerate(graph.listed) if each.name == node.name)
        raise InvalidModelError([ModelError(f"PyTorch refuses {what}: {reason}", position)]) from error


_LONGEST_REASON = 300


def _leaf(torch: Any, leaf: Array, dtype: str | None) -> Any:
    tensor = torch.from_numpy(np.array(leaf[0]))
    return tensor.to(getattr(torch, dtype)) if dtype is not None and tensor.is_floating_point() else tensor


def _numpy(torch: Any, tensor: Any) -> Array:
    """Bring a result to NumPy, which has no bfloat16 and computes nothing in float16: in float32, exactly."""
    narrow = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.detach().float() if narrow else tensor.detach()).numpy()


def _operand(torch: Any, operand: Operand, slot: Slot, values: Mapping[str, Any]) -> Any:
    if operand is None or isinstance(operand, str):
        return None if operand is None else values[operand]
    if is_index(operand, slot):
        return torch.tensor(operand, dtype=torch.int64)
    floats = next((each.dtype for each in values.values() if each.is_floating_point()), torch.float64)
    return torch.tensor(operand, dtype=floats)


def _of_its_own(output: Any, operands: Sequence[Any]) -> Any:
    """Make an output a tensor of its own, with a gradient of its own.

    PyTorch hands back its input where nothing is to be done, whose gradient would be that of both; and the result of
    constants alone has none.
    """
    if any(output is operand for operand in operands):
        output = output.view_as(output)
    return output if output.requires_grad else output.requires_grad_()
