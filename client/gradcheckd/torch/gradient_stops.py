"""Tracing of `detach` and `no_grad`, which stop a gradient and leave no trace in an exported program.

An exported program is functional: it has neither. A value behind them is a constant for autograd, so that the imported
graph must hold it fixed. While a module is traced, `StopGradientMode` therefore marks such values with an operator of
its own. Within the forward pass of a `torch.autograd.Function` nothing is marked: there gradients are off in any case,
and the backward pass of the function says what the gradient is.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcheckd.torch.export_internals import AUTOGRAD_FUNCTION_FILE, pytree, set_grad_enabled
from gradcheckd.torch.traced_functions import TRACED_FUNCTIONS

_DATA: Any = Tensor.data
_DETACHING: frozenset[Any] = frozenset({torch.detach, Tensor.detach, _DATA.__get__})


def _copy_value(input: Tensor) -> Tensor:
    """Return a copy that marks a value without a gradient."""
    return input.clone()


stop_gradient: Any = torch.library.custom_op("gradcheckd::stop_gradient", _copy_value, mutates_args=())
stop_gradient.register_fake(torch.empty_like)


STOP_GRADIENT = "gradcheckd.stop_gradient"
"""Name of the operator in an exported program."""


class StopGradientMode(TorchFunctionMode):
    """Marks the values behind `detach`, `.data` and `no_grad` while a module is traced."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, and mark its results where it stops gradients."""
        keywords = kwargs or {}
        if func in _DETACHING:
            return args[0] if _is_in_autograd_function() else stop_gradient(args[0])
        if func is set_grad_enabled and _is_in_autograd_function():
            return None
        if func in TRACED_FUNCTIONS:
            return TRACED_FUNCTIONS[func](*args, **keywords, stop_gradient=stop_gradient)
        results = func(*args, **keywords)
        if torch.is_grad_enabled() or _is_in_autograd_function():
            return results
        arguments = pytree.tree_leaves((args, keywords))
        mark = _make_marker(arguments)
        return pytree.tree_map(mark, results)


def _make_marker(arguments: Sequence[Any]) -> Callable[[Any], Any]:
    def mark(result: Any) -> Any:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return result
        if any(result is argument for argument in arguments):
            # The function worked in place.
            return result.copy_(stop_gradient(result))
        return stop_gradient(result)

    return mark


def _is_in_autograd_function() -> bool:
    """Tell whether the caller is within a call of `apply` of a `torch.autograd.Function`."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if frame.f_code.co_name == "apply" and frame.f_code.co_filename == AUTOGRAD_FUNCTION_FILE:
            return True
        frame = frame.f_back
    return False
