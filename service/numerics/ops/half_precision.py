"""PyTorch's functions that take no half precision."""

from typing import Any


def widen_half(torch: Any, *tensors: Any) -> Any:
    """Return tensors of PyTorch's, those of half precision in single precision; None stays None."""
    half = (torch.float16, torch.bfloat16)
    wide = tuple(x.float() if x is not None and x.dtype in half else x for x in tensors)
    return wide[0] if len(wide) == 1 else wide
