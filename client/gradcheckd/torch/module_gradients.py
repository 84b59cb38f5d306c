"""The gradients that a module computes itself, by its own backward pass, in its own datatype and on its own device."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gradcheckd.errors import RequestError
from gradcheckd.torch.module_arguments import ModuleArguments, name_outputs, select_outputs
from gradcheckd.torch.module_parts import keep_buffers


def run_backward(
    function: Callable[..., Any],
    arguments: ModuleArguments,
    judged: Mapping[str, Tensor],
    cotangents: Mapping[str, Tensor | None],
    *,
    parts: Mapping[str, nn.Module],
    loss: Callable[..., Any] | None,
    output: str | None,
) -> dict[str, Tensor | None]:
    """Return the gradient of each judged tensor; None where the backward pass reaches none.

    Buffers that the module changes get their numbers back, and no `.grad` is touched.

    Parameters
    ----------
    function
        Module or function.
    arguments
        Its arguments.
    judged
        Parameters and inputs by name.
    cotangents
        Factor of each output; None of an output that is the loss.
    parts
        Modules whose buffers may change.
    loss, output
        As in `from_module`.

    Raises
    ------
    RequestError
        The outputs have other names or shapes than those of the reference.
    """
    copies = [
        tensor.detach().clone().requires_grad_(is_judged)
        for tensor, is_judged in zip(arguments.tensors, arguments.judged_flags, strict=True)
    ]
    leaves = dict(judged) | {
        name: copy for name, copy in zip(arguments.names, copies, strict=True) if copy.requires_grad
    }
    with torch.enable_grad(), keep_buffers(parts):
        args, kwargs = arguments.rebuild([_make_non_leaf(copy) for copy in copies])
        results = function(*args, **kwargs)
        outputs = select_outputs(name_outputs(results if loss is None else loss(results)), output)
        _refuse_other_outputs(outputs, cotangents)
        # Outputs that no gradient reaches are constants.
        reached = {name: tensor for name, tensor in outputs.items() if tensor.requires_grad}
        if not reached:
            return dict.fromkeys(leaves)
        gradients = torch.autograd.grad(
            list(reached.values()),
            list(leaves.values()),
            [_make_upstream(cotangents[name], tensor) for name, tensor in reached.items()],
            allow_unused=True,
        )
    return dict(zip(leaves, gradients, strict=True))


def _make_non_leaf(tensor: Tensor) -> Tensor:
    """Return a view that a module may change in place, which it may not do to a leaf."""
    return tensor.view_as(tensor) if tensor.requires_grad else tensor


def _make_upstream(cotangent: Tensor | None, output: Tensor) -> Tensor:
    return torch.ones_like(output) if cotangent is None else cotangent.to(output.device, output.dtype)


def _refuse_other_outputs(outputs: Mapping[str, Tensor], cotangents: Mapping[str, Tensor | None]) -> None:
    if outputs.keys() != cotangents.keys():
        raise RequestError(
            f"The module returns {', '.join(map(repr, outputs))}, and its reference "
            f"{', '.join(map(repr, cotangents))}: they must return the same outputs."
        )
    for name, cotangent in cotangents.items():
        shape = [] if cotangent is None else list(cotangent.shape)
        if list(outputs[name].shape) != shape:
            raise RequestError(
                f"The output {name!r} of the module has shape {list(outputs[name].shape)}, and that of its reference "
                f"{shape}."
            )
