"""The autograd route: the same model in PyTorch, differentiated by it. The one module that imports torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from service.numerics.graph import Graph, Operand, Values
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


def differentiate(graph: Graph, leaves: Mapping[str, Array], names: Collection[str] | None = None) -> Autograd:
    """Differentiate the loss by PyTorch in the dtype of the leaves.

    Parameters
    ----------
    graph
        The model; each op's `twin` builds it.
    leaves
        Every tensor and weight, (1, ...), in one dtype.
    names
        Leaves and nodes to differentiate by; all by default.
    """
    wanted = list(graph.shapes) if names is None else list(names)
    torch = _torch()
    values: dict[str, Any] = {}
    with torch.enable_grad():
        for name, leaf in leaves.items():
            values[name] = torch.from_numpy(np.array(leaf[0])).requires_grad_(name in wanted)
        for node in graph.nodes:
            operands = [_operand(torch, operand, values) for operand in node.operands]
            values[node.name] = _of_its_own(node.op.twin(torch, *operands), operands)
        found = torch.autograd.grad(
            values[graph.loss].sum(), [values[name] for name in wanted], allow_unused=True, materialize_grads=True
        )
    gradients = {name: gradient.detach().numpy() for name, gradient in zip(wanted, found, strict=True)}
    return Autograd(values[graph.loss].detach().numpy(), gradients)


def _operand(torch: Any, operand: Operand, values: Mapping[str, Any]) -> Any:
    if operand is None or isinstance(operand, str):
        return None if operand is None else values[operand]
    dtype = next((each.dtype for each in values.values()), torch.float64)
    return torch.tensor(operand, dtype=dtype)


def _of_its_own(output: Any, operands: Sequence[Any]) -> Any:
    """Make an output a tensor of its own, with a gradient of its own.

    PyTorch hands back its input where nothing is to be done, whose gradient would be that of both; and the result of
    constants alone has none.
    """
    if any(output is operand for operand in operands):
        output = output.view_as(output)
    return output if output.requires_grad else output.requires_grad_()
