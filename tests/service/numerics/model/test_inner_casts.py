"""Places inside ops at which programs round, against such programs."""

import numpy as np
import pytest
import torch

from service.numerics.core.precision import PRECISIONS
from service.numerics.core.recipe import EAGER_RECIPES, Recipe
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_recipe_allowances
from service.numerics.ops import OP_REGISTRY

FP32, BF16 = PRECISIONS["FP32"], PRECISIONS["BF16"]


def make_graph(op, operands, leaves, **attributes):
    """The model sum(op(operands) g)."""
    nodes = [
        Node("y", OP_REGISTRY[op](**attributes), operands),
        Node("t", OP_REGISTRY["mul"](), ("y", "g")),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    kinds = {name: "index" for name, leaf in leaves.items() if leaf.dtype.kind == "i"}
    return Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()}, kinds)


def estimate(graph, leaves, recipe, name):
    return estimate_recipe_allowances(graph, leaves, recipe, 0, [name])[name].elements


def test_the_row_term_of_attention_takes_the_gradient_that_was_not_rounded():
    """Where all values are equal the gradient of the scores is 0, but for the rounding of g in the products alone."""
    generator = np.random.default_rng(0)
    query, key = generator.normal(size=(1, 5, 4)), generator.normal(size=(1, 5, 4))
    gradient = np.full((1, 5, 2), 1 + 2.0**-12)
    leaves = {"q": query, "k": key, "v": np.ones((1, 5, 2)), "g": gradient}
    graph = make_graph("scaled_dot_product_attention", ("q", "k", "v", None), leaves)
    weights = torch.softmax(torch.tensor(query @ key.swapaxes(1, 2) / 2), -1).numpy()
    rounded = PRECISIONS["TF32"].round_to_nearest(gradient)
    by_query = (weights * (rounded - gradient).sum(axis=-1, keepdims=True)) @ key / 2
    assert np.abs(by_query).max() > 2.0**-13
    assert (np.abs(by_query)[0] <= estimate(graph, leaves, EAGER_RECIPES["TF32"], "q")).all()
    assert estimate(graph, leaves, EAGER_RECIPES["FP32"], "q").max() < 2.0**-13


@pytest.mark.parametrize("has_cast", [True, False])
def test_cross_entropy_takes_the_rounded_logarithms_where_they_are_stored(has_cast):
    logits = np.random.default_rng(1).normal(size=(1, 20, 9))
    logits = torch.tensor(logits).bfloat16().double().numpy()
    leaves = {"z": logits, "labels": np.zeros((1, 20), np.int64), "g": np.ones((1, 20))}
    graph = make_graph("cross_entropy", ("z", "labels", None), leaves, reduction="none")
    exact = torch.softmax(torch.tensor(logits[0]), -1)
    stored = torch.log_softmax(torch.tensor(logits[0]), -1).bfloat16().double().exp()
    casts = {"y.log_p": BF16} if has_cast else {}
    allowed = estimate(graph, leaves, Recipe(judged=BF16, accumulate=FP32, output=BF16, casts=casts), "z")
    assert ((stored - exact).abs().numpy() <= allowed).all() == has_cast


@pytest.mark.parametrize("has_cast", [True, False])
def test_a_normalisation_takes_the_rounded_statistics_where_they_are_stored(has_cast):
    """PyTorch's layer_norm on a CPU stores mean and reciprocal deviation in bfloat16."""
    generator = np.random.default_rng(2)
    rows, weight, gradient = (
        torch.tensor(generator.normal(size=size) + 2).bfloat16() for size in ((40, 16), (16,), (40, 16))
    )
    rows.requires_grad_()
    output = torch.nn.functional.layer_norm(rows, [16], weight, torch.zeros(16).bfloat16())
    (judged,) = torch.autograd.grad(output, rows, gradient)
    leaves = {
        name: tensor.detach().double().numpy()[None]
        for name, tensor in zip("xwg", (rows, weight, gradient), strict=True)
    }
    graph = make_graph("layer_norm", ("x", "w", None), leaves, normalized_shape=[16])
    exact_rows = rows.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(
        torch.nn.functional.layer_norm(exact_rows, [16], weight.double()), exact_rows, gradient.double()
    )
    casts = {"y.mean": BF16, "y.rstd": BF16} if has_cast else {}
    allowed = estimate(graph, leaves, Recipe(judged=BF16, accumulate=FP32, output=BF16, casts=casts), "x")
    assert ((judged.double() - exact).abs().numpy() <= allowed).all() == has_cast


def test_tensors_that_a_recipe_rounds_for_all_do_not_round_again():
    """Numbers of 8 bits times a scale are no numbers of 8 bits."""
    weights = np.random.default_rng(3).normal(size=(1, 30)) / 3
    leaves = {"w": PRECISIONS["FP8_E4M3"].round_tensor(weights), "g": np.ones((1, 30))}
    assert not PRECISIONS["FP8_E4M3"].is_representable(leaves["w"]).all()
    graph = make_graph("square", ("w",), leaves)
    recipe = Recipe(judged=FP32, accumulate=FP32, output=FP32, inputs=PRECISIONS["FP8_E4M3"])
    assert (estimate(graph, leaves, recipe, "w") <= 2.0**-18 * np.abs(leaves["w"][0])).all()
