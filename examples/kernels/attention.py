"""Causal attention as a flash kernel computes it in bfloat16, against PyTorch's own in float64.

It runs on the GPU if there is one: put your kernel's launches in place of the lines of PyTorch.
"""

import sys

import torch
from torch.nn.functional import scaled_dot_product_attention

from gradcheckd.torch import check_module

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class FlashAttention(torch.autograd.Function):
    """Attention that rounds its weights, their gradients and what it stores, and adds up in float32."""

    @staticmethod
    def forward(ctx, q, k, v):
        """Return the rounded output; keep it for the backward pass."""
        scores = q.float() @ k.float().mT / q.shape[-1] ** 0.5
        visible = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
        p = scores.masked_fill(~visible, -torch.inf).softmax(-1)
        output = (p.bfloat16().float() @ v.float()).bfloat16()
        ctx.save_for_backward(q, k, v, p, output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        """Return the rounded gradients of the inputs."""
        q, k, v, p, output = ctx.saved_tensors
        g = gradient.float()
        row_term = (g * output.float()).sum(-1, keepdim=True)
        ds = (p * (g @ v.float().mT - row_term) / q.shape[-1] ** 0.5).bfloat16().float()
        by_v = p.bfloat16().float().mT @ g
        return (ds @ k.float()).bfloat16(), (ds.mT @ q.float()).bfloat16(), by_v.bfloat16()


def attend(q, k, v):
    """Return what the kernel should compute, in plain PyTorch."""
    return scaled_dot_product_attention(q, k, v, is_causal=True)


def judge(kernel=FlashAttention):
    """Check the backward pass of a kernel; run it twice more, as atomic additions may differ from run to run."""
    numbers = torch.randn(3, 1, 4, 32, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = numbers.bfloat16().to(DEVICE)
    return check_module(kernel.apply, (q, k, v), reference=attend, recipe="flash", repeats=2)


if __name__ == "__main__":
    report = judge()
    print(report)
    sys.exit(not report.passed)
