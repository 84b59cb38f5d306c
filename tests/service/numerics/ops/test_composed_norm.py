import numpy as np
import pytest
import torch

from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def evaluate(name, attributes, *arrays):
    """The output, by way of the steps of the composition."""
    leaves = {f"t{number}": array[None] for number, array in enumerate(arrays)}
    shapes = {leaf: array.shape[1:] for leaf, array in leaves.items()}
    nodes = [Node("y", OP_REGISTRY[name](**attributes), tuple(leaves)), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    return Graph(nodes, shapes, {}).forward(leaves)["y"][0]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3, 2.5])
def test_lp_pool_equals_pytorch(axes, ceil_mode, p):
    x = np.random.default_rng(axes).uniform(0.1, 2, size=(2, 3, 5, 4, 5)[: axes + 2])
    attributes = {"norm_type": p, "kernel_size": 2, "stride": 2, "ceil_mode": ceil_mode}
    theirs = OP_REGISTRY[f"lp_pool{axes}d"](**attributes).torch_forward(torch, torch.tensor(x))
    np.testing.assert_allclose(evaluate(f"lp_pool{axes}d", attributes, x), theirs, rtol=1e-13)


def test_lp_pool_is_the_root_of_a_sum_of_powers():
    x = np.array([[1.0, 2.0, 3.0, 4.0]])
    output = evaluate("lp_pool1d", {"norm_type": 3, "kernel_size": 2}, x)
    np.testing.assert_allclose(output, [[(1 + 8) ** (1 / 3), (27 + 64) ** (1 / 3)]], rtol=1e-14)


@pytest.mark.parametrize("p", [0, 1, 2, 3, "inf", "-inf"])
def test_dist_equals_pytorch(p):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 3, 4)), generator.normal(size=(3, 1))
    expected = torch.dist(torch.tensor(a), torch.tensor(b), float(p))
    np.testing.assert_allclose(evaluate("dist", {"p": p}, a, b), expected, rtol=1e-14)


@pytest.mark.parametrize("p", [0, 1, 2, 3, "inf"])
@pytest.mark.parametrize("rows", [2, 3, 6])
def test_pdist_equals_pytorch_and_the_pairs(p, rows):
    x = np.random.default_rng(rows).normal(size=(rows, 3))
    output = evaluate("pdist", {"p": p}, x)
    np.testing.assert_allclose(output, torch.pdist(torch.tensor(x), float(p)), rtol=1e-14)
    pairs = [np.linalg.norm(x[i] - x[j], float(p)) for i in range(rows) for j in range(i + 1, rows)]
    np.testing.assert_allclose(output, pairs, rtol=1e-14)


def test_pdist_refuses_what_has_no_pairs():
    assert "at least two rows" in get_refusal("pdist", {}, (1, 3))
    assert "at least two rows" in get_refusal("pdist", {}, (4,))
    assert "not negative" in get_refusal("pdist", {"p": -1}, (3, 3))
