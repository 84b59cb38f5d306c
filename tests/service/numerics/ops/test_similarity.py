"""Norms and distances along an axis at points whose results are known."""

from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.core.batching import Array, add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def differentiate(op: str, attributes: dict[str, object], *operands: list[float]) -> tuple[Array, list[Array]]:
    """Output, and the gradients of its sum by each operand."""
    names = tuple(f"x{number}" for number in range(len(operands)))
    leaves = {name: add_batch_axis(np.array(operand)) for name, operand in zip(names, operands, strict=True)}
    nodes = [Node("y", OP_REGISTRY[op](**attributes), names), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()})
    values = graph.forward(leaves)
    gradients = graph.backward(values)
    return values["y"][0], [gradients[name][0] for name in names]


def test_normalize_divides_by_the_norm_or_by_eps() -> None:
    output, (gradient,) = differentiate("normalize", {"dim": 0}, [3.0, 4.0])
    np.testing.assert_allclose(output, [0.6, 0.8], rtol=1e-15)
    np.testing.assert_allclose(gradient, [(1 - 0.6 * 1.4) / 5, (1 - 0.8 * 1.4) / 5], rtol=1e-14)
    output, (gradient,) = differentiate("normalize", {"dim": 0, "eps": 8.0}, [3.0, 4.0])
    np.testing.assert_allclose(output, [3 / 8, 4 / 8], rtol=1e-15)
    np.testing.assert_allclose(gradient, [1 / 8, 1 / 8], rtol=1e-15)


def test_cosine_is_that_of_the_angle() -> None:
    output, gradients = differentiate("cosine_similarity", {"dim": 0}, [3.0, 4.0], [0.0, 2.0])
    np.testing.assert_allclose(output, 0.8, rtol=1e-15)
    np.testing.assert_allclose(gradients[0], [-0.8 * 0.6 / 5, (1 - 0.8 * 0.8) / 5], rtol=1e-14)
    np.testing.assert_allclose(gradients[1], [0.6 / 2, 0.0], rtol=1e-14, atol=1e-16)


def test_distance_adds_eps_to_the_difference() -> None:
    output, gradients = differentiate("pairwise_distance", {"eps": 1.0}, [3.0, 4.0], [1.0, 1.0])
    np.testing.assert_allclose(output, 5.0, rtol=1e-15)
    np.testing.assert_allclose(gradients, [[0.6, 0.8], [-0.6, -0.8]], rtol=1e-15)


CALLS = {
    "normalize": lambda p, a, b: torch.nn.functional.normalize(a, p, 1),
    "pairwise_distance": lambda p, a, b: torch.nn.functional.pairwise_distance(a, b, p),
    "cdist": lambda p, a, b: torch.cdist(a, b, p),
    "vector_norm": lambda p, a, b: torch.linalg.vector_norm(a, p, 1),
}
ARGUMENTS = {"normalize": "a, {p}, 1", "vector_norm": "a, {p}, 1"}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("p", ["inf", "-inf", -1.5, 0.5, 0.0])
def test_norms_of_any_order_agree_with_pytorch(name: str, p: Any) -> None:
    if name == "cdist" and float(p) < 0:
        return  # PyTorch refuses it, and so do we
    generator = np.random.default_rng(3)
    a, b, weights = (generator.uniform(0.5, 2, shape) for shape in ((3, 4), (3, 4), (3, 3)))
    leaves = [torch.tensor(array, requires_grad=True) for array in (a, b)]
    output = CALLS[name](float(p), *leaves)
    factor = torch.tensor(weights[0, 0] if output.ndim == 2 and name != "cdist" else weights[:, 0])
    factor = torch.tensor(weights) if name == "cdist" else factor
    names = "ab" if name in ("cdist", "pairwise_distance") else "a"
    # With p = 0 PyTorch has no gradient at all.
    gradients = torch.autograd.grad(
        (output * factor + 0 * leaves[0].sum()).sum(), leaves[: len(names)], allow_unused=True, materialize_grads=True
    )
    arguments = ARGUMENTS.get(name, "a, b, {p}").format(p=f'"{p}"' if isinstance(p, str) else p)
    body: dict[str, Any] = {
        "model": f"y = {name}({arguments})\nm = mul(y, f)\nloss = sum(m)",
        "tensors": {"f": factor.tolist()},
        "weights": {key: array.tolist() for key, array in zip(names, (a, b), strict=False)},
    }
    right = {key: gradient.tolist() for key, gradient in zip(names, gradients, strict=True)}
    assert check({**body, "candidate": right})["outcome"] == "pass"
    wrong = {**right, "a": (gradients[0] + 0.125).tolist()}
    assert check({**body, "candidate": wrong})["outcome"] == "fail"


def test_distances_of_all_pairs_refuse_a_negative_order() -> None:
    assert "a p that is not negative" in get_refusal("cdist", {"p": -1.0}, (3, 2), (4, 2))


@pytest.mark.parametrize("size", [3e-9, 1e-24])
def test_cosines_of_vectors_below_eps_agree(size: float) -> None:
    """PyTorch's own derivative is off there by as much as the vector is of eps."""
    a, b = size * np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([[3.0, 4.0], [1.0, 0.0]])
    model = "y = cosine_similarity(a, b)\nloss = sum(y)"
    body = {"model": model, "tensors": {"b": b.tolist()}, "weights": {"a": a.tolist()}}
    right = b / np.linalg.norm(b, axis=1, keepdims=True) / 1e-8
    report: Any = check(body)
    assert report["outcome"] == "pass"
    assert "bug of this service" not in report["summary"]
    assert check({**body, "candidate": {"a": right.tolist()}})["outcome"] == "pass"
    assert check({**body, "candidate": {"a": (right * 1.1).tolist()}})["outcome"] == "fail"
