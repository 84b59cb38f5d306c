"""Reductions by index against sums written out, and PyTorch at ties and zeros."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY

ScatterReduce = OP_REGISTRY["scatter_reduce"]
REDUCTIONS: dict[str, Any] = {
    "sum": sum, "prod": math.prod, "mean": lambda v: sum(v) / len(v), "amax": max, "amin": min,
}  # fmt: skip


def compute_both(op: Any, x: Any, index: Any, src: Any) -> tuple[Any, Any, Any, Any]:
    """The output and the gradients by hand, and those of PyTorch."""
    arrays = [np.asarray(array)[None] for array in (x, index, src)]
    output = op.forward(*arrays)
    gradient = np.random.default_rng(3).normal(size=output.shape)
    by_x, _, by_src = op.backward(gradient, output, *arrays)
    leaves = [torch.tensor(np.asarray(array, float), requires_grad=True) for array in (x, src)]
    theirs = op.torch_forward(torch, leaves[0], torch.tensor(index), leaves[1])
    np.testing.assert_allclose(output[0], theirs.detach(), rtol=1e-14)
    return by_x[0], by_src[0], *torch.autograd.grad(theirs, leaves, torch.tensor(gradient[0]))


@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("include_self", [True, False])
def test_scatter_reduce_equals_its_definition(reduce: str, include_self: bool) -> None:
    generator = np.random.default_rng(0)
    x, src, index = generator.normal(size=4), generator.normal(size=6), np.array([0, 2, 2, 0, 2])
    op = ScatterReduce(dim=0, reduce=reduce, include_self=include_self)
    output = op.forward(x[None], index[None], src[None])[0]
    for place in range(4):
        sent = [src[k] for k in range(5) if index[k] == place]
        counted = [x[place], *sent] if include_self or not sent else sent
        assert output[place] == pytest.approx(REDUCTIONS[reduce](counted), rel=1e-14)
    by_x, by_src, x_by_torch, src_by_torch = compute_both(op, x, index, src)
    np.testing.assert_allclose(by_x, x_by_torch, rtol=1e-13)
    np.testing.assert_allclose(by_src, src_by_torch, rtol=1e-13)


@pytest.mark.parametrize("zeros", [[], [1], [1, 2], [0], [4]])
@pytest.mark.parametrize("own_zero", [False, True])
def test_products_with_zeros_have_the_gradients_of_pytorch(zeros: list[int], own_zero: bool) -> None:
    x, src, index = np.array([0.0 if own_zero else 3.0, 2.0]), np.arange(1.0, 6.0), np.array([0, 0, 0, 1, 1])
    src[zeros] = 0
    by_x, by_src, x_by_torch, src_by_torch = compute_both(ScatterReduce(dim=0, reduce="prod"), x, index, src)
    np.testing.assert_allclose(by_x, x_by_torch, rtol=1e-14)
    np.testing.assert_allclose(by_src, src_by_torch, rtol=1e-14)


@pytest.mark.parametrize(("include_self", "shares"), [(True, [1 / 3, 1 / 3, 1 / 3]), (False, [0, 1 / 2, 1 / 2])])
def test_equal_extremes_share_the_gradient(include_self: bool, shares: list[float]) -> None:
    x, index, src = np.array([[5.0, 1.0]]), np.array([[0, 0, 0]]), np.array([[5.0, 5.0, 2.0]])
    op = ScatterReduce(dim=0, reduce="amax", include_self=include_self)
    by_x, _, by_src = op.backward(np.ones((1, 2)), op.forward(x, index, src), x, index, src)
    np.testing.assert_allclose([by_x[0, 0], *by_src[0, :2]], shares)
    np.testing.assert_array_equal([by_x[0, 1], by_src[0, 2]], [1, 0])
    choices = op.list_subgradient_choices([np.zeros_like(x), None, np.zeros_like(src)], x, index, src)
    assert choices is not None
    assert list(zip(choices.entry_positions, choices.entry_elements, strict=True)) == (
        [(0, 0), (2, 0), (2, 1)] if include_self else [(2, 0), (2, 1)]
    )
    np.testing.assert_allclose(choices.weights.sum(), 1)
    assert choices.is_exact_tie.all()
    apart = src + np.array([0.1, 0.2, 0.0])
    assert op.list_subgradient_choices([np.zeros_like(x), None, np.zeros_like(src)], x, index, apart) is None


def test_pytorch_counts_an_element_that_takes_no_part_which_the_twin_avoids() -> None:
    """x[0] is the largest, but not included: PyTorch's own derivative hands out half of the gradient only."""
    x, index, src = torch.tensor([5.0]), torch.tensor([0]), torch.tensor([5.0], requires_grad=True)
    own = torch.scatter_reduce(x, 0, index, src, "amax", include_self=False)
    assert torch.autograd.grad(own.sum(), src)[0].item() == 0.5
    twin = ScatterReduce(dim=0, reduce="amax", include_self=False).torch_forward(torch, x, index, src)
    assert torch.autograd.grad(twin.sum(), src)[0].item() == 1
