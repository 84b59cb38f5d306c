"""Convolutions block by block are PyTorch's own, to rounding, and never copy more than is said."""

from typing import Any

import numpy as np
import pytest
import torch

from service.numerics.ops import blocked_convolution

CORRELATED: dict[str, dict[str, Any]] = {
    "plain": {},
    "strides": {"stride": (2, 3)},
    "padding": {"padding": (3, 1)},
    "dilation": {"dilation": (2, 3)},
    "groups": {"groups": 2},
    "all": {"stride": (3, 1), "padding": (2, 4), "dilation": (1, 2), "groups": 2},
}
SPREAD: dict[str, dict[str, Any]] = CORRELATED | {
    "more behind": {"stride": (2, 3), "output_padding": (1, 2)},
    "all of it": {"stride": (3, 2), "padding": (2, 1), "dilation": (1, 2), "groups": 2, "output_padding": (2, 1)},
}
DEFAULTS: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}


def draw_tensor(*shape: int) -> Any:
    return torch.tensor(np.random.default_rng(7).normal(size=shape), requires_grad=True)


def compute_gradients(output: Any, operands: list[Any]) -> list[Any]:
    """The output, and the gradients of a sum of it with weights that tell its elements apart."""
    weights = torch.arange(1.0, output.numel() + 1, dtype=torch.float64).reshape(output.shape)
    return [output, *torch.autograd.grad((output * weights).sum(), operands)]


def assert_same(ours: list[Any], theirs: list[Any]) -> None:
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.shape == its.shape
        np.testing.assert_allclose(mine.detach(), its.detach(), rtol=1e-12, atol=1e-9 * float(its.detach().abs().max()))


@pytest.mark.parametrize("copied", [1, 150, 1000, 2**20])
@pytest.mark.parametrize("attributes", CORRELATED.values(), ids=CORRELATED)
def test_a_correlation_in_blocks_is_the_whole(attributes: Any, copied: int, monkeypatch: Any) -> None:
    given = DEFAULTS | attributes
    operands = [draw_tensor(2, 4, 13, 12), draw_tensor(6, 4 // given["groups"], 4, 3), draw_tensor(6)]
    whole = compute_gradients(torch.nn.functional.conv2d(*operands, **given), operands)
    monkeypatch.setattr(blocked_convolution, "MAX_COPIED_NUMBERS", copied)
    assert_same(compute_gradients(blocked_convolution.correlate_in_blocks(torch, *operands, **given), operands), whole)
    bare = blocked_convolution.correlate_in_blocks(torch, *operands[:2], None, **given)
    np.testing.assert_allclose(
        bare.detach(), torch.nn.functional.conv2d(*operands[:2], **given).detach(), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("copied", [1, 150, 1000, 2**20])
@pytest.mark.parametrize("attributes", SPREAD.values(), ids=SPREAD)
def test_a_transposed_one_in_blocks_is_the_whole(attributes: Any, copied: int, monkeypatch: Any) -> None:
    given = DEFAULTS | {"output_padding": (0, 0)} | attributes
    operands = [draw_tensor(2, 4, 6, 7), draw_tensor(4, 6 // given["groups"], 4, 3), draw_tensor(6)]
    whole = compute_gradients(torch.nn.functional.conv_transpose2d(*operands, **given), operands)
    monkeypatch.setattr(blocked_convolution, "MAX_COPIED_NUMBERS", copied)
    assert_same(compute_gradients(blocked_convolution.transpose_in_blocks(torch, *operands, **given), operands), whole)


@pytest.mark.parametrize("copied", [1, 150, 400, 2**20])
@pytest.mark.parametrize("axes", [1, 3])
def test_blocks_of_other_numbers_of_axes_are_the_whole(axes: int, copied: int, monkeypatch: Any) -> None:
    given: dict[str, Any] = {"stride": (2, 1, 3)[:axes], "padding": (1, 2, 0)[:axes], "dilation": (2, 1, 1)[:axes]}
    given["groups"] = 2
    behind = given | {"output_padding": (1, 0, 2)[:axes]}
    functional: Any = torch.nn.functional
    correlated = [draw_tensor(2, 4, *(6, 5, 7)[:axes]), draw_tensor(6, 2, *(2, 3, 2)[:axes]), draw_tensor(6)]
    spread = [correlated[0], draw_tensor(4, 3, *(2, 3, 2)[:axes]), draw_tensor(6)]
    whole = compute_gradients(getattr(functional, f"conv{axes}d")(*correlated, **given), correlated)
    whole_spread = compute_gradients(getattr(functional, f"conv_transpose{axes}d")(*spread, **behind), spread)
    monkeypatch.setattr(blocked_convolution, "MAX_COPIED_NUMBERS", copied)
    in_blocks: Any = blocked_convolution
    assert_same(compute_gradients(in_blocks.correlate_in_blocks(torch, *correlated, **given), correlated), whole)
    assert_same(compute_gradients(in_blocks.transpose_in_blocks(torch, *spread, **behind), spread), whole_spread)


class Counting:
    """PyTorch, whose convolutions are counted."""

    def __init__(self) -> None:
        self.nn, self.functional, self.copied = self, self, [0]

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name, None) or getattr(torch.nn.functional, name)

    def conv2d(self, input: Any, weight: Any, *others: Any) -> Any:
        output = torch.nn.functional.conv2d(input, weight, *others)
        self.copied.append(input.shape[0] * weight[0].numel() * output.shape[2] * output.shape[3])
        return output


def test_blocks_copy_at_most_their_estimate(monkeypatch: Any) -> None:
    counting, operands = Counting(), [draw_tensor(1, 1, 40, 40), draw_tensor(1, 1, 20, 20)]
    monkeypatch.setattr(blocked_convolution, "MAX_COPIED_NUMBERS", 5000)
    blocked_convolution.correlate_in_blocks(counting, *operands, None, **DEFAULTS)
    assert max(counting.copied) <= 5000
    assert sum(counting.copied) == 400 * 21 * 21, "every position once, of which the whole would copy all at once"
