"""Requests against PyTorch called by the op's own name, with the attributes as they stand in the request.

Not through the twins, which bring attributes into a form of ours first and would hide what is misread there.
"""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from service.checks.graph.check import check

TORCH: dict[str, Any] = {
    "squeeze": lambda x, dim: torch.squeeze(x, tuple(dim)),
    "vector_norm": torch.linalg.vector_norm,
}


def split_attributes(inputs: list[Any], op: str) -> tuple[list[Any], dict[str, Any]]:
    """Inputs and attributes: PyTorch takes the equation of einsum first."""
    return (inputs[1:], {"equation": inputs[0]}) if op == "einsum" else (inputs, {})


def check_op(op: str, inputs: list[Any], leaves: dict[str, Any], dtype: str = "float64", **attributes: Any) -> Any:
    """Report on the sum of the squares of an op's output, all leaves being weights."""
    inputs, more = split_attributes(inputs, op)
    nodes = [
        {"name": "out", "op": op, "inputs": inputs, **attributes, **more},
        {"name": "square", "op": "pow", "inputs": ["out"], "exponent": 2},
        {"name": "loss", "op": "sum", "inputs": ["square"]},
    ]
    return check({"tensors": {}, "weights": leaves, "model": {"nodes": nodes}, "dtype": dtype})


def differentiate_by_torch(
    op: str, inputs: list[Any], leaves: dict[str, Any], dtype: str, **attributes: Any
) -> dict[str, Any]:
    """The same by PyTorch: gradients by name."""
    tensors = {
        name: torch.tensor(leaf, dtype=getattr(torch, dtype), requires_grad=True) for name, leaf in leaves.items()
    }
    operands = [
        tensors.get(operand, operand) if isinstance(operand, str) else torch.tensor(operand) for operand in inputs
    ]
    function = TORCH.get(op) or getattr(functional, op, None) or getattr(torch, op)
    (function(*operands, **attributes) ** 2).sum().backward()
    gradients = {
        name: torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for name, tensor in tensors.items()
    }
    return {name: gradient.double().numpy() for name, gradient in gradients.items()}


VECTOR = [0.3, -1.2, 0.7]
MATRIX = [[0.3, -1.2, 0.7], [1.1, 0.4, -0.6]]

PICTURE = [[MATRIX[0], MATRIX[1], MATRIX[0]]]
KERNEL = [[[[0.5, -1.0], [0.3, 0.2]]]]

CASES: dict[str, tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = {
    "a constant label": ("cross_entropy", ["x", 2], {"x": VECTOR}, {}),
    "an ellipsis": ("einsum", ["...ij,jk->k...i", "x", "w"], {"x": [MATRIX], "w": [[0.5, -2.0]] * 3}, {}),
    "an ellipsis of each": ("einsum", ["i...,...->i", "x", "w"], {"x": MATRIX, "w": VECTOR}, {}),
    "an ellipsis that is summed": ("einsum", ["...i->i", "x"], {"x": [MATRIX]}, {}),
    "axes of length 1": ("einsum", ["ij,ij->j", "x", "w"], {"x": MATRIX, "w": [[0.5], [2.0]]}, {}),
    "a window that begins inside": (
        "max_pool2d",
        ["x"],
        {"x": [MATRIX]},
        {"kernel_size": [3, 1], "ceil_mode": True},
    ),
    "a list of one stride": ("conv2d", ["x", "w"], {"x": [PICTURE], "w": KERNEL}, {"stride": [2], "padding": [1]}),
    "a list of one width": (
        "conv_transpose2d",
        ["x", "w"],
        {"x": [PICTURE], "w": KERNEL},
        {"stride": [2], "padding": [1], "output_padding": [1], "dilation": [1]},
    ),
    "a list of one kernel size": ("max_pool2d", ["x"], {"x": PICTURE}, {"kernel_size": [2], "stride": [1]}),
    "a list of one for the mean": ("avg_pool2d", ["x"], {"x": PICTURE}, {"kernel_size": [2], "padding": [1]}),
    "no axis squeezed": ("squeeze", ["x"], {"x": [VECTOR]}, {"dim": []}),
    "padding by the default": ("pad", ["x"], {"x": VECTOR}, {"pad": [1, -1], "value": None}),
    "groups of one element": ("group_norm", ["x"], {"x": MATRIX}, {"num_groups": 3}),
    "how many are not 0": ("vector_norm", ["x"], {"x": [[0.5, 0.0, -2.0], [0.0, 1.0, 3.0]]}, {"ord": 0, "dim": 1}),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradients_are_those_of_pytorch(case: Any, dtype: str) -> None:
    op, inputs, leaves, attributes = case
    report = check_op(op, inputs, leaves, dtype, **attributes)
    assert report["outcome"] == "pass"
    for name, expected in differentiate_by_torch(op, inputs, leaves, dtype, **attributes).items():
        for route in ("analytic", "autograd"):
            gradient = np.asarray(report["gradients"][name][route])
            assert gradient.shape == expected.shape
            np.testing.assert_allclose(gradient, expected, rtol=1e-12 if dtype == "float64" else 1e-5, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [("sub", ["x", 0.1], {}), ("clamp", ["x"], {"max": 0.1}), ("clamp", ["x"], {"min": 0.1})],
)
def test_all_routes_are_at_one_point_where_a_constant_meets_an_element(
    op: str, inputs: list[Any], attributes: dict[str, Any], dtype: str
) -> None:
    """0.1 is no number of any dtype; x is made of it, and what is left of their difference is nothing."""
    assert check_op(op, inputs, {"x": [0.1, 0.25, 0.5]}, dtype, **attributes)["outcome"] == "pass"


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("order", [0.5, 1.5, 3, -1, -2])
def test_a_norm_of_small_elements_does_not_fail(order: float, scale: float) -> None:
    """Steps larger than an element must not be taken across 0, where the norm turns round."""
    for seed in range(3):
        x = (np.random.default_rng(seed).normal(size=(3, 4)) * scale).tolist()
        assert check_op("vector_norm", ["x"], {"x": x}, ord=order, dim=1)["outcome"] != "fail"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("class_weight", [None, [0.5, 2.0, 1.0], [0.5, 1.0, 0.0]])
@pytest.mark.parametrize("labels", [[1, 1], [1, 2]], ids=["all ignored", "one ignored"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("op", ["nll_loss", "cross_entropy"])
def test_labels_that_are_ignored_have_the_gradients_of_pytorch(
    op: str, reduction: str, labels: list[int], class_weight: list[float] | None, dtype: str
) -> None:
    """Of a mean of nothing, which is NaN, they are 0; of labels that are not ignored, but weigh nothing, NaN."""
    attributes = {"reduction": reduction, "ignore_index": 1}
    x = torch.tensor(MATRIX, dtype=getattr(torch, dtype), requires_grad=True)
    weight = None if class_weight is None else torch.tensor(class_weight, dtype=x.dtype)
    loss = getattr(functional, op)(x, torch.tensor(labels), weight, **attributes)
    loss.backward()
    tensors = {"y": labels} | ({} if class_weight is None else {"v": class_weight})
    nodes = [{"name": "loss", "op": op, "inputs": ["x", *tensors], **attributes}]
    report = check({"tensors": tensors, "weights": {"x": MATRIX}, "model": {"nodes": nodes}, "dtype": dtype})
    assert report["outcome"] != "fail"
    assert x.grad is not None
    for route in ("analytic", "autograd"):
        np.testing.assert_allclose(float(report["loss"][route]), loss.item(), rtol=1e-6)
        gradient = np.asarray(report["gradients"]["x"][route]).astype(np.float64)
        np.testing.assert_allclose(gradient, x.grad.double().numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shift", [1e2, -1e4, 1e6, -1e8])
@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
def test_scores_that_are_all_large_pass(op: str, shift: float) -> None:
    """What comes out of softmax is never far from what it was: no step looks too large by that."""
    for seed in range(4):
        x = (np.random.default_rng(seed).normal(size=(3, 5)) + shift).tolist()
        assert check_op(op, ["x"], {"x": x}, dim=1)["outcome"] == "pass"
