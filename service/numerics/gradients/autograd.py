"""The gradient by PyTorch: the same model, built and differentiated by it.

No other module imports torch.
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import check_interrupt, iterate_interruptibly
from service.numerics.core.quoting import quote_name
from service.numerics.model.graph import (
    Graph,
    InvalidModelError,
    ModelError,
    NamedArrays,
    Node,
    Operand,
    is_index_constant,
)
from service.numerics.ops.op import Slot


@dataclass(frozen=True)
class AutogradResult:
    """The loss, and its gradients by name."""

    loss: Array
    gradients: NamedArrays


@cache
def _import_torch() -> Any:
    # The import takes seconds, for which checks without this gradient should not wait.
    import torch

    return torch


class _OneThread:
    """A context in which PyTorch computes with one thread, which no other program of the process notices.

    PyTorch has one number for all threads of a process: the first context sets it, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock, self._count, self._threads_before = threading.Lock(), 0, 1

    def __enter__(self) -> None:
        torch = _import_torch()
        with self._lock:
            self._count += 1
            if self._count == 1:
                self._threads_before = torch.get_num_threads()
                # A service mostly has one thread already, and to set the number takes longer than to ask for it.
                if self._threads_before != 1:
                    torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            if not self._count and self._threads_before != 1:
                _import_torch().set_num_threads(self._threads_before)


_ONE_THREAD = _OneThread()


def differentiate_by_torch(
    graph: Graph, leaves: Mapping[str, Array], names: Collection[str] | None = None, dtype: str | None = None
) -> AutogradResult:
    """Return the gradients of the loss by PyTorch.

    Parameters
    ----------
    graph
        The model. Each op's `torch_forward` builds it, that of a composite op too: its steps are not used.
    leaves
        Every tensor and weight, (1, ...), in one dtype.
    names
        Leaves and nodes to differentiate by; all by default.
    dtype
        PyTorch's name of the dtype to run in; that of the leaves by default.

    Raises
    ------
    InvalidModelError
        If PyTorch refuses an op, or has no derivative of it.
    """
    requested_names = (
        [name for name in graph.public_names if name not in graph.leaf_kinds] if names is None else list(names)
    )
    torch = _import_torch()
    values: dict[str, Any] = {}
    with _ONE_THREAD, torch.enable_grad():
        for name, leaf in iterate_interruptibly(leaves.items()):
            values[name] = _make_leaf_tensor(torch, leaf, dtype).requires_grad_(name in requested_names)
        is_long = graph.estimate_cost().total_work > _UNINTERRUPTED_WORK
        for node in iterate_interruptibly(graph.ordered_nodes):
            operands = _list_operand_tensors(torch, node, values)
            try:
                outputs = graph.name_outputs(node, node.op.torch_forward(torch, *operands))
                outputs = {name: _copy_aliased_output(output, operands) for name, output in outputs.items()}
            except _TORCH_ERRORS as error:
                raise _translate_error(error, graph, node) from error
            values |= outputs
            if is_long:
                # PyTorch calls the hook on the way back, when the gradient of the node is known.
                for output in outputs.values():
                    if output.requires_grad:
                        output.register_hook(_check_interrupt_in_hook)
        try:
            torch_gradients = torch.autograd.grad(
                values[graph.loss_name],
                [values[name] for name in requested_names],
                allow_unused=True,
                materialize_grads=True,
            )
        except _TORCH_ERRORS as error:
            raise _translate_error(error, graph) from error
    gradients = {
        name: _to_numpy(torch, gradient) for name, gradient in zip(requested_names, torch_gradients, strict=True)
    }
    return AutogradResult(_to_numpy(torch, values[graph.loss_name]), gradients)


def _check_interrupt_in_hook(gradient: Any) -> None:
    check_interrupt()


_TORCH_ERRORS = (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError)


def _translate_error(error: Exception, graph: Graph, node: Node | None = None) -> InvalidModelError:
    """Return the error of a model that PyTorch refuses, with the node.

    Its reason is PyTorch's own.
    """
    reason = (str(error).splitlines() or [type(error).__name__])[0][:_MAX_REASON_LENGTH]
    refused_part = "the backward pass" if node is None else f"node {quote_name(node.name)} ({node.op.name})"
    node_position = None if node is None else graph.find_position(node.name)
    return InvalidModelError([ModelError(f"PyTorch refuses {refused_part}: {reason}", node_position)])


_UNINTERRUPTED_WORK = 10**7
"""Multiply-adds of a forward pass up to which the backward pass takes no pause: some hundredths of a second."""
_MAX_REASON_LENGTH = 300


def _make_leaf_tensor(torch: Any, leaf: Array, dtype: str | None) -> Any:
    array = np.asarray(leaf[0])
    # PyTorch takes the memory of the array, and writes to none that has a gradient.
    is_taken = array.flags.writeable and array.flags.c_contiguous
    tensor = torch.from_numpy(array if is_taken else array.copy())
    return tensor.to(getattr(torch, dtype)) if dtype is not None and tensor.is_floating_point() else tensor


def _to_numpy(torch: Any, tensor: Any) -> Array:
    """Return a result as an array of NumPy.

    NumPy has no bfloat16, and computes nothing in float16: both become float32, exactly.
    """
    is_narrow = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.detach().float() if is_narrow else tensor.detach()).numpy()


def _list_operand_tensors(torch: Any, node: Node, values: Mapping[str, Any]) -> list[Any]:
    if len(node.source_names) == len(node.operands):
        return [values[name] for name in node.source_names]
    return [
        _make_operand_tensor(torch, operand, slot, values)
        for operand, slot in zip(node.operands, node.operand_slots, strict=True)
    ]


def _make_operand_tensor(torch: Any, operand: Operand, slot: Slot, values: Mapping[str, Any]) -> Any:
    if operand is None or isinstance(operand, str):
        return None if operand is None else values[operand]
    if is_index_constant(operand, slot):
        return torch.tensor(operand, dtype=torch.int64)
    float_dtype = next((tensor.dtype for tensor in values.values() if tensor.is_floating_point()), torch.float64)
    return torch.tensor(operand, dtype=float_dtype)


def _copy_aliased_output(output: Any, operands: Sequence[Any]) -> Any:
    """Return an output that is a tensor of its own, with a gradient of its own.

    PyTorch hands back its input where nothing is to be done, and the gradient of that would be the gradient of both.
    The result of constants alone has none, and that of integers and truths never.
    """
    if not output.is_floating_point():
        return output
    for operand in operands:
        if output is operand:
            output = output.view_as(output)
            break
    return output if output.requires_grad else output.requires_grad_()
