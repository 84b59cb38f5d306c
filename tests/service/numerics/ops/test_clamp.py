import numpy as np
import torch

from service.numerics.ops.op import make_form

CLAMP = make_form("clamp", "tensors")


def test_values_and_gradients_are_those_of_pytorch_at_ties_too() -> None:
    generator = np.random.default_rng(5)
    for has_low, has_high in ((True, True), (True, False), (False, True)):
        x, low, high = generator.integers(-2, 3, (3, 500)).astype(float)
        if has_low and has_high:
            # Between equal ends PyTorch has no gradient for either.
            high = np.where((low == high) & (x < low), high + 1, high)
        given = (x, low if has_low else None, high if has_high else None)
        leaves = [None if array is None else torch.tensor(array, requires_grad=True) for array in given]
        expected = torch.clamp(*leaves)
        weights = generator.normal(size=500)
        expected.backward(torch.tensor(weights))
        inputs = [None if array is None else array[None] for array in given]
        y = CLAMP.forward(*inputs)
        np.testing.assert_array_equal(y[0], expected.detach().numpy())
        for leaf, gradient in zip(leaves, CLAMP.backward(weights[None], y, *inputs), strict=True):
            if leaf is None:
                assert gradient is None
            else:
                np.testing.assert_array_equal(gradient[0], leaf.grad.numpy())
