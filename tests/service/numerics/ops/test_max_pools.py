from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.core.batching import Shape, count_elements
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("name", ["avg_pool1d", "max_pool1d"])
def test_pools_of_one_axis_refuse_by_name(name: str) -> None:
    assert "(B, C, L) or (C, L)" in get_refusal(name, {"kernel_size": 2}, (4,))
    assert "half the kernel_size" in get_refusal(name, {"kernel_size": 2, "padding": 2}, (1, 4))
    assert "no larger than the padded input" in get_refusal(name, {"kernel_size": 5}, (1, 4))


def test_adaptive_pools_refuse_by_name() -> None:
    assert "(B, C, H, W)" in get_refusal("adaptive_max_pool2d", {"output_size": 2}, (3, 4))
    assert "(B, C, D, H, W)" in get_refusal("adaptive_avg_pool3d", {"output_size": 2}, (3, 4))


@pytest.mark.parametrize(
    ("shape", "output_size"), [((2, 5, 4), [None, 3]), ((1, 2, 4, 5), [2, None]), ((1, 3, 2, 4), [None, 2, None])]
)
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_pools_keep_the_length_of_an_axis_without_a_number(kind: str, shape: Shape, output_size: Any) -> None:
    name = f"adaptive_{kind}_pool{len(output_size)}d"
    x = np.random.default_rng(0).permutation(count_elements(shape)).reshape(shape) / 4
    leaf = torch.tensor(x, requires_grad=True)
    torch.square(getattr(torch.nn.functional, name)(leaf, output_size)).sum().backward()
    assert leaf.grad is not None
    model = f"p = {name}(x, {output_size})\nq = square(p)\nloss = sum(q)"
    for factor, outcome in ((1, "pass"), (1.5, "fail")):
        candidate = {"x": (factor * leaf.grad).tolist()}
        report: Any = check({"model": model, "tensors": {}, "weights": {"x": x.tolist()}, "candidate": candidate})
        assert report["outcome"] == outcome
        lengths = [
            n if number is None else number for number, n in zip(output_size, shape[-len(output_size) :], strict=True)
        ]
        assert report["model"]["nodes"][0]["output_size"] == lengths
