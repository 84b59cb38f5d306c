"""Parts of torch's export that have no public name or no types, in one place."""

import importlib
from typing import Any

import torch

pytree: Any = importlib.import_module("torch.utils._pytree")
"""Trees of lists, tuples and dictionaries."""
map_fx_arguments: Any = importlib.import_module("torch.fx.node").map_arg
"""Replaces the nodes among the arguments of a node."""
OpOverload: Any = importlib.import_module("torch._ops").OpOverload
"""An operator with one signature."""
export: Any = torch.export
aten: Any = torch.ops.aten
keep_stack_frames: Any = getattr(importlib.import_module("torch.fx.proxy"), "_register_stack_trace_anchor", None)
"""Has torch record the lines of a function; None in a version of torch without it."""
set_grad_enabled: Any = importlib.import_module("torch._C")._set_grad_enabled
AUTOGRAD_FUNCTION_FILE: str = importlib.import_module("torch.autograd.function").__file__ or ""
"""File of the method `apply` of autograd functions."""
