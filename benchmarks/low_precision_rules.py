"""Rules by which tests of kernels accept a gradient, beside the service's."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, Tensor], bool]


def is_close(judged: Tensor, right: Tensor, plain: Tensor) -> bool:
    """Accept what is within 1e-2 absolutely and relatively, the customary `allclose`."""
    return torch.allclose(judged, right, rtol=1e-2, atol=1e-2)


def is_twice_plain(judged: Tensor, right: Tensor, plain: Tensor) -> bool:
    """Accept at most twice the largest error of a plain run in the same arithmetic, as flash-attention's tests do."""
    return bool((judged - right).abs().max() <= 2 * (plain - right).abs().max() + 1e-5)


def is_close_in_norm(judged: Tensor, right: Tensor, plain: Tensor) -> bool:
    """Accept an error of 0.005 of the gradient by root mean square, as flash-linear-attention's tests do."""
    return bool((judged - right).square().mean().sqrt() < 0.005 * (right.square().mean().sqrt() + 1e-8))


RULES: Mapping[str, Rule] = {
    "allclose 1e-2": is_close,
    "twice a plain run": is_twice_plain,
    "rms 0.005": is_close_in_norm,
}
