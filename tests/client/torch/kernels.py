"""Kernels in bfloat16 as people write them, emulated: they read rounded numbers and accumulate in float32."""

from typing import Any

import torch
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention, plainly."""
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


class FlashAttention(torch.autograd.Function):
    """Causal attention that rounds P, dS and what it stores, and takes the row term from its rounded output."""

    scale = 1.0
    """Factor of dS, for a bug."""
    keeps_diagonal = True
    """False for a mask that is off by one in the backward pass."""
    noise = 0.0
    """Relative size of what differs from run to run."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        weights = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        output = (weights.to(q.dtype).float() @ v.float()).to(q.dtype)
        ctx.save_for_backward(q, k, v, weights, output)
        return output

    @classmethod
    def backward(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        q, k, v, weights, output = ctx.saved_tensors
        g, dtype = gradient.float(), q.dtype
        if not cls.keeps_diagonal:
            weights = weights.tril(-1)
        by_v = weights.to(dtype).float().mT @ g
        row_term = (g * output.float()).sum(-1, keepdim=True)
        by_scores = weights * (g @ v.float().mT - row_term) * (cls.scale / q.shape[-1] ** 0.5)
        by_scores = by_scores.to(dtype).float()
        by_q = by_scores @ k.float() * (1 + cls.noise * torch.rand(()))
        return by_q.to(dtype), (by_scores.mT @ q.float()).to(dtype), by_v.to(dtype)
