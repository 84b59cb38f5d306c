"""Other checkers of gradients with their defaults: each says whether it accepts a gradient, right or planted wrong.

A wrong backward pass is planted in front of the model: an identity on a tensor whose backward pass multiplies the
gradient by a mask, by the means that each framework has for a backward pass of one's own.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.optimize import check_grad

from benchmarks.models import LOSSES
from benchmarks.problems import Array
from tests.alarms import torch_gradients

Leaves = Mapping[str, Array]
Checker = Callable[[str, Leaves, Leaves, str], bool]
"""Of a model, its leaves, a mask for each tensor that is differentiated by, and the dtype: whether it accepts."""

SCIPY_THRESHOLD = 1e-5
"""`check_grad` returns a norm and leaves the threshold to its caller; this is what is customary."""


class _MaskedInTorch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(mask)
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def accepts_by_gradcheck(model: str, leaves: Leaves, masks: Leaves, dtype: str) -> bool:
    given = torch_gradients.make_tensors(leaves, getattr(torch, dtype))
    factors = {name: torch.from_numpy(mask).to(given[name].dtype) for name, mask in masks.items()}

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        masked = map(_MaskedInTorch.apply, tensors, factors.values())
        return torch_gradients.LOSSES[model](given | dict(zip(masks, masked, strict=True)))

    inputs = tuple(given[name].requires_grad_() for name in masks)
    return torch.autograd.gradcheck(loss, inputs, raise_exception=False)


class _JaxLosses:
    """Losses with masks, compiled once for each model."""

    def __init__(self) -> None:
        import jax
        import jax.test_util

        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        self._apply_mask = jax.custom_vjp(lambda tensor, mask: tensor)
        self._apply_mask.defvjp(lambda tensor, mask: (tensor, mask), lambda mask, gradient: (gradient * mask, None))
        self.losses = {model: jax.jit(self._compile_loss(loss)) for model, loss in LOSSES.items()}

    def _compile_loss(self, loss: Any) -> Any:
        def compute_masked_loss(tensors: Any, masks: Any, rest: Any) -> Any:
            return loss(self.jax.numpy, rest | {name: self._apply_mask(tensors[name], masks[name]) for name in masks})

        return compute_masked_loss


@cache
def _get_jax_losses() -> _JaxLosses:
    return _JaxLosses()


def accepts_by_check_vjp(model: str, leaves: Leaves, masks: Leaves, dtype: str) -> bool:
    jax, losses = _get_jax_losses().jax, _get_jax_losses().losses
    given = {name: jax.numpy.asarray(leaf) for name, leaf in _convert_leaves(leaves, dtype).items()}
    rest = {name: value for name, value in given.items() if name not in masks}
    factors = _convert_leaves(masks, dtype)

    def loss(tensors: Any) -> Any:
        return losses[model](tensors, factors, rest)

    inputs = {name: given[name] for name in masks}
    return _raises_nothing(lambda: jax.test_util.check_vjp(loss, lambda *args: jax.vjp(loss, *args), (inputs,)))


def accepts_by_check_grads(model: str, leaves: Leaves, masks: Leaves, dtype: str) -> bool:
    """HIPS autograd: forward and reverse mode, to the second order."""
    import autograd.numpy
    from autograd.extend import defjvp, defvjp, primitive
    from autograd.test_util import check_grads

    masked = primitive(lambda tensor, mask: tensor + 0)
    defvjp(masked, lambda output, tensor, mask: lambda gradient: gradient * mask, argnums=(0,))
    defjvp(masked, lambda moved, output, tensor, mask: moved, argnums=(0,))
    given, factors = _convert_leaves(leaves, dtype), _convert_leaves(masks, dtype)

    def loss(*tensors: Any) -> Any:
        changed = {name: masked(tensor, factors[name]) for name, tensor in zip(masks, tensors, strict=True)}
        return LOSSES[model](autograd.numpy, given | changed)

    inputs = [given[name] for name in masks]
    return _raises_nothing(lambda: check_grads(loss, tuple(range(len(inputs))))(*inputs))


def accepts_by_check_grad(model: str, leaves: Leaves, masks: Leaves, dtype: str) -> bool:
    """scipy: of one vector; the loss is in float64 in any case, since its step is lost in anything narrower."""
    gradient = torch_gradients.compute_gradients(model, leaves, getattr(torch, dtype))
    wrong = np.concatenate([(gradient[name] * mask).ravel() for name, mask in masks.items()])
    point = np.concatenate([leaves[name].ravel() for name in masks])
    cuts = np.cumsum([mask.size for mask in masks.values()])[:-1]

    def loss(vector: Array) -> float:
        parts = zip(masks.items(), np.split(vector, cuts), strict=True)
        return float(LOSSES[model](np, {**leaves, **{name: part.reshape(mask.shape) for (name, mask), part in parts}}))

    with np.errstate(all="ignore"):
        return bool(check_grad(loss, lambda vector: wrong, point) <= SCIPY_THRESHOLD)


def _convert_leaves(leaves: Leaves, dtype: str) -> dict[str, Array]:
    return {name: leaf if leaf.dtype.kind == "i" else leaf.astype(dtype) for name, leaf in leaves.items()}


def _raises_nothing(run_check: Callable[[], None]) -> bool:
    """Whether a check raises nothing."""
    try:
        with np.errstate(all="ignore"):
            run_check()
    except AssertionError:
        return False
    return True


CHECKERS: Mapping[str, Checker] = {
    "torch gradcheck": accepts_by_gradcheck,
    "jax check_vjp": accepts_by_check_vjp,
    "autograd check_grads": accepts_by_check_grads,
    "scipy check_grad": accepts_by_check_grad,
}
