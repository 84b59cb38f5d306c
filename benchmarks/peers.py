"""The peers: each makes of a problem a call that checks or finds its gradient, and says what it found.

Setting up (tensors, the structure of a sparse Jacobian, compiling) is not timed; all that depends on values is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize._numdiff import approx_derivative

from benchmarks.problems import Array, BenchmarkProblem
from benchmarks.tables import TORCH_SLOW


@dataclass(frozen=True)
class PreparedPeer:
    """A peer, set up for a problem.

    Attributes
    ----------
    run
        What is timed.
    gradient
        From what it returned to the gradient that it found, in one vector; None where it does not return it.
    """

    run: Callable[[], Any]
    gradient: Callable[[Any], Array | None]


class NotApplicableError(Exception):
    """The peer has nothing to offer for this problem."""


def make_torch_inputs(problem: BenchmarkProblem) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array.copy()).requires_grad_() for array in problem.inputs.values())


def differentiate_by_torch(loss: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> Array:
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    return np.concatenate([gradient.numpy().ravel() for gradient in gradients])


def make_gradcheck_call(
    loss: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], *, fast: bool
) -> Callable[[], bool]:
    """float64, and otherwise its defaults."""
    return lambda: torch.autograd.gradcheck(loss, inputs, fast_mode=fast)


def prepare_gradcheck(problem: BenchmarkProblem, *, fast: bool) -> PreparedPeer:
    """The gradient that it checks is the one beside which all others are held; it raises where it does not pass."""
    return PreparedPeer(
        make_gradcheck_call(problem.torch_loss, make_torch_inputs(problem), fast=fast), lambda passed: None
    )


def prepare_scipy_3_point(problem: BenchmarkProblem) -> PreparedPeer:
    return PreparedPeer(
        lambda: approx_derivative(problem.compute_loss, problem.flat_inputs, method="3-point"), np.ravel
    )


def prepare_scipy_sparse(problem: BenchmarkProblem) -> PreparedPeer:
    """The Jacobian of the terms; its columns are grouped by scipy, which is timed as our colouring is."""
    if problem.make_sparsity is None:
        raise NotApplicableError("every term feels every weight")
    structure = problem.make_sparsity()
    run = partial(approx_derivative, problem.compute_terms, problem.flat_inputs, method="3-point", sparsity=structure)
    return PreparedPeer(run, lambda jacobian: np.asarray(jacobian.sum(axis=0)).ravel())


def prepare_numdifftools(problem: BenchmarkProblem) -> PreparedPeer:
    import numdifftools

    gradient = numdifftools.Gradient(problem.compute_loss)
    return PreparedPeer(lambda: gradient(problem.flat_inputs), np.ravel)


JAX_BLOCK_SIZE = 256
"""Elements in one compiled call: the perturbed inputs of all at once would not fit into memory."""
JAX_STEP = 1e-6


def prepare_jax_vmap(problem: BenchmarkProblem) -> PreparedPeer:
    """A central difference of the loss for each element, batched; compiled before it is timed."""
    import jax

    jax.config.update("jax_enable_x64", True)
    inputs = tuple(jax.numpy.asarray(array) for array in problem.inputs.values())
    calls = [
        call for position in range(len(inputs)) for call in _compile_jax_calls(jax, problem.jax_loss, inputs, position)
    ]
    return PreparedPeer(lambda: [np.asarray(call()) for call in calls], np.concatenate)


def _compile_jax_calls(jax: Any, loss: Any, inputs: tuple[Any, ...], position: int) -> list[Callable[[], Any]]:
    """Compiled calls, each for a block of elements of one input, so that what is not perturbed is not batched."""

    def evaluate_moved(inputs: tuple[Any, ...], index: Any, step: float) -> Any:
        flat = inputs[position].ravel().at[index].add(step)
        return loss(*inputs[:position], flat.reshape(inputs[position].shape), *inputs[position + 1 :])

    def difference_element(inputs: tuple[Any, ...], index: Any) -> Any:
        return (evaluate_moved(inputs, index, JAX_STEP) - evaluate_moved(inputs, index, -JAX_STEP)) / (2 * JAX_STEP)

    batched = jax.jit(jax.vmap(difference_element, in_axes=(None, 0)))
    indices = np.arange(inputs[position].size)
    blocks = [indices[start : start + JAX_BLOCK_SIZE] for start in range(0, indices.size, JAX_BLOCK_SIZE)]
    compiled = {size: batched.lower(inputs, np.arange(size)).compile() for size in {len(lines) for lines in blocks}}
    return [partial(compiled[len(block)], inputs, block) for block in blocks]


PEERS: Mapping[str, Callable[[BenchmarkProblem], PreparedPeer]] = {
    TORCH_SLOW: partial(prepare_gradcheck, fast=False),
    "torch gradcheck, fast mode": partial(prepare_gradcheck, fast=True),
    "scipy, 3-point": prepare_scipy_3_point,
    "scipy, 3-point, sparsity by hand": prepare_scipy_sparse,
    "numdifftools.Gradient": prepare_numdifftools,
    "jax, vmap, compiled": prepare_jax_vmap,
}
