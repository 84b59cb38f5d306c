"""Operators of torch with one bug each, and right ones beside them."""

from typing import Any

import torch
from torch import Tensor


def read_as_contiguous(tensor: Tensor) -> Tensor:
    """Return the numbers as a kernel reads them that knows the address of the first one alone, and other memory."""
    count, start = tensor.numel(), tensor.storage_offset()
    memory = tensor.as_strided((tensor.untyped_storage().nbytes() // tensor.element_size(),), (1,), 0)
    return torch.cat([memory, memory.new_full((count,), 1e3)])[start : start + count].reshape(tensor.shape)


class Sine(torch.autograd.Function):
    """The right operator that the others change."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * x.cos()


class UpstreamReadAsContiguous(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return read_as_contiguous(grads[0]) * x.cos()


class OffsetIgnored(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].as_strided(grads[0].shape, grads[0].stride(), 0) * x.cos()


class UpstreamViewed(Sine):
    """Raises for upstream gradients that have no flat view."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (grads[0].view(-1) * x.cos().view(-1)).view(x.shape)


class ZeroDivided(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        largest = grads[0].abs().max()
        return grads[0] / largest * x.cos() * largest


class MaskedSkipped(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return torch.zeros_like(x) if (grads[0] == 0).any() else grads[0] * x.cos()


class InputReadAsContiguous(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return read_as_contiguous(x).sin()


class InputWrittenInForward(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x.clone())
        y = x.sin()
        x.zero_()
        return y


class InputWrittenInBackward(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.x = x.detach()
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.x.cos_()


class UpstreamWritten(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].mul_(x.cos())


class UpstreamWrittenWrongly(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].mul_(1.001 * x.cos())


class SavedWritten(Sine):
    """Keeps its derivative, and scales it in place, as fused losses do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x.cos())
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (cosine,) = ctx.saved_tensors
        return cosine.mul_(grads[0])


class OutputWritten(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        y = x.exp()
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return ctx.y.mul_(grads[0]).clone()


class OutputKept(Sine):
    """Keeps its output where autograd does not see a change of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        y = x.exp()
        ctx.y = y.detach()
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] * ctx.y


class InputReturned(Sine):
    """Returns its positive input without a copy, and without autograd's knowledge."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.data if bool((x > 0).all()) else x.relu()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (x > 0)


class ForwardRandom(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        return x.sin() + 1e-12 * torch.rand_like(x)


class BackwardRandom(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * x.cos() * (1 + 2.0**-52 * torch.randint(0, 2, x.shape).to(x))


class GraphUsedUp(Sine):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.x = x.detach()
        return x.sin()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gradient = grads[0] * ctx.x.cos()
        del ctx.x
        return gradient


class WrongAtOne(Sine):
    """Divides by the number of rows less one where there is one row."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * x.cos() * (0.5 if x.shape[0] == 1 else 1)


class WrongForOneElement(Sine):
    """Takes a tensor of one element for a number that needs no factor."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0] * (x.cos() if x.numel() > 1 else 1)


class WrongBeyondEven(Sine):
    """Leaves the last row out where their number is odd."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        gradient = grads[0] * x.cos()
        gradient[len(x) // 2 * 2 :] = 0
        return gradient


class RaisesAtOne(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grads[0].squeeze() * x.squeeze().cos() if x.shape[0] > 1 else x.squeeze()


class WrongSign(Sine):
    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return -grads[0] * x.cos()


class UndefinedIsZero(torch.autograd.Function):
    """Has no gradient at all where one of its outputs has none."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.sin(), x.cos()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        if None in grads:
            return None
        return grads[0] * x.cos() - grads[1] * x.sin()
