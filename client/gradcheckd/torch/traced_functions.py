"""Functions of torch that look at the values of their arguments, as a trace can compute them: without these checks.

A call of the function itself has made the checks before the trace.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def _compute_gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    *,
    stop_gradient: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return `torch.nn.functional.gaussian_nll_loss`, which hands the gradient through its bound of the variance."""
    variance = var if isinstance(var, Tensor) else var * torch.ones_like(input)
    if variance.shape == input.shape[:-1]:
        variance = variance.unsqueeze(-1)
    variance = variance + stop_gradient(variance.clamp(min=eps) - variance)
    loss = 0.5 * (torch.log(variance) + (input - target) ** 2 / variance)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


TRACED_FUNCTIONS: dict[Any, Callable[..., Any]] = {functional.gaussian_nll_loss: _compute_gaussian_nll_loss}
"""Functions of torch, with those that a trace calls in their place; these take the function that stops a gradient."""
