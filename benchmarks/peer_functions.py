"""The models as one would write them for each peer; NumPy's give the terms whose sum the loss is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[Any]


def _correlate(x: Any, w1: Any) -> Any:
    """Sum of shifted slices: in NumPy the fastest of six ways at S3, where it matters, and in jax at every size."""
    kernel = w1.shape[0]
    out = x.shape[0] - kernel + 1
    return sum(w1[a, b] * x[a : a + out, b : b + out] for a in range(kernel) for b in range(kernel))


def make_convolution_terms(y: Array) -> Callable[..., Array]:
    def terms(x: Array, w1: Array, w2: Array) -> Array:
        hidden = np.tanh(_correlate(x, w1)).ravel()
        return 0.5 * np.square(1 / (1 + np.exp(-hidden * w2)) - y)

    return terms


def make_torch_convolution(y: Array) -> Callable[..., torch.Tensor]:
    target = torch.from_numpy(y)

    def loss(x: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(torch.nn.functional.conv2d(x[None, None], w1[None, None]).flatten())
        return 0.5 * (torch.sigmoid(hidden * w2) - target).square().sum()

    return loss


def make_jax_convolution(y: Array) -> Callable[..., Any]:
    def loss(x: Any, w1: Any, w2: Any) -> Any:
        import jax

        hidden = jax.numpy.tanh(_correlate(x, w1)).ravel()
        return 0.5 * jax.numpy.square(jax.nn.sigmoid(hidden * w2) - y).sum()

    return loss


def make_perceptron_terms(x: Array, label: Array) -> Callable[..., Array]:
    samples = np.arange(len(x))

    def terms(w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
        logits = np.tanh(x @ w1.T + b1) @ w2.T + b2
        largest = logits.max(axis=1, keepdims=True)
        log_of_sum = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
        return (log_of_sum - logits[samples, label]) / len(x)

    return terms


def make_torch_perceptron(x: Array, label: Array) -> Callable[..., torch.Tensor]:
    samples, classes = torch.from_numpy(x), torch.from_numpy(label)

    def loss(w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(torch.nn.functional.linear(samples, w1, b1))
        return torch.nn.functional.cross_entropy(torch.nn.functional.linear(hidden, w2, b2), classes)

    return loss


def make_jax_perceptron(x: Array, label: Array) -> Callable[..., Any]:
    def loss(w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        import jax

        logits = jax.numpy.tanh(x @ w1.T + b1) @ w2.T + b2
        return -jax.nn.log_softmax(logits)[np.arange(len(x)), label].mean()

    return loss
