"""The three models as one writes them in PyTorch, and their gradients in any of its dtypes."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from service.numerics.core.batching import Array

Tensors = Mapping[str, Tensor]


def compute_reference_loss(leaves: Tensors) -> Tensor:
    hidden = torch.tanh(functional.conv2d(leaves["x"][None, None], leaves["w1"][None, None]).flatten())
    return 0.5 * (torch.sigmoid(hidden * leaves["w2"]) - leaves["y"]).square().sum()


def compute_mlp_loss(leaves: Tensors) -> Tensor:
    hidden = torch.tanh(functional.linear(leaves["x"], leaves["w"], leaves["b"]))
    return functional.cross_entropy(functional.linear(hidden, leaves["w_head"], leaves["b_head"]), leaves["y"])


def compute_attention_loss(leaves: Tensors) -> Tensor:
    embedded = functional.linear(leaves["x"], leaves["w_embed"])
    normal = functional.layer_norm(embedded, embedded.shape[-1:], leaves["gain"], leaves["shift"])
    query, key, value = (functional.linear(normal, leaves[f"w_{name}"]) for name in ("query", "key", "value"))
    attended = functional.scaled_dot_product_attention(query[None], key[None], value[None])[0]
    features = embedded + functional.linear(attended, leaves["w_out"])
    return functional.mse_loss(functional.linear(features, leaves["w_head"], leaves["b_head"]), leaves["y"])


LOSSES: Mapping[str, Callable[[Tensors], Tensor]] = {
    "reference": compute_reference_loss,
    "mlp": compute_mlp_loss,
    "attention": compute_attention_loss,
}


def make_tensors(leaves: Mapping[str, Array], dtype: torch.dtype) -> dict[str, Tensor]:
    """Leaves in a dtype; labels stay what they are."""
    given = {name: torch.from_numpy(np.array(leaf)) for name, leaf in leaves.items()}
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}


def compute_gradients(model: str, leaves: Mapping[str, Array], dtype: torch.dtype = torch.float64) -> dict[str, Array]:
    """Gradients with respect to all floats but the target, widened to float64."""
    given = make_tensors(leaves, dtype)
    wanted = {name: value.requires_grad_() for name, value in given.items() if name != "y"}
    gradients = torch.autograd.grad(LOSSES[model](given), list(wanted.values()))
    return {name: gradient.double().numpy() for name, gradient in zip(wanted, gradients, strict=True)}
