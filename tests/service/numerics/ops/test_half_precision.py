import torch

from service.numerics.ops.half_precision import widen_half


def test_half_precision_alone_is_widened() -> None:
    tensors = [torch.zeros(2, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64)]
    wide = widen_half(torch, *tensors, None)
    assert [None if x is None else x.dtype for x in wide] == [
        torch.float32, torch.float32, torch.float64, torch.int64, None,
    ]  # fmt: skip
    assert widen_half(torch, tensors[2]) is tensors[2]
