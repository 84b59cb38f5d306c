"""SwiGLU as a fused kernel computes it in bfloat16, against PyTorch's own in float64.

It runs on the GPU if there is one: put your kernel's launches in place of the lines of PyTorch.
"""

import sys

import torch
from torch.nn.functional import silu

from gradcheckd.torch import check_module

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class SwiGlu(torch.autograd.Function):
    """silu(gate) * up, which computes the gate anew in its backward pass and rounds what it stores alone."""

    @staticmethod
    def forward(ctx, gate, up):
        """Return the rounded product; keep the inputs alone."""
        ctx.save_for_backward(gate, up)
        return (silu(gate.float()) * up.float()).bfloat16()

    @staticmethod
    def backward(ctx, gradient):
        """Return the rounded gradients of the inputs."""
        gate, up = (tensor.float() for tensor in ctx.saved_tensors)
        g, sigmoid = gradient.float(), gate.sigmoid()
        by_gate = g * up * sigmoid * (1 + gate * (1 - sigmoid))
        return by_gate.bfloat16(), (g * gate * sigmoid).bfloat16()


def judge(kernel=SwiGlu):
    """Check the backward pass of a kernel."""
    numbers = torch.randn(2, 32, 64, generator=torch.Generator().manual_seed(0))
    gate, up = numbers.bfloat16().to(DEVICE)
    return check_module(kernel.apply, (gate, up), reference=lambda gate, up: silu(gate) * up, recipe="flash")


if __name__ == "__main__":
    report = judge()
    print(report)
    sys.exit(not report.passed)
