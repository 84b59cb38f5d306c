"""Fewer digits on the way."""

import numpy as np

from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis.reduced_precision import iterate_reduced_precision_gradients
from tests.solved_problems import solve_preset

MLP = solve_preset("mlp_classifier")


def compute_reduced_gradients(precision: str) -> dict[str, dict[str, np.ndarray]]:
    scene = MLP.build_context()
    nodes = {node.name for node in scene.graph.nodes}
    leaves = {name: value for name, value in scene.values.items() if name not in nodes}
    gradients_by_precision = iterate_reduced_precision_gradients(scene.graph, leaves, PRECISIONS[precision])
    return {
        what: {name: gradient[0] for name, gradient in gradients.items()} for what, gradients in gradients_by_precision
    }


def test_reduced_precision_names_rounded_products() -> None:
    inputs, products = compute_reduced_gradients("TF32").values()
    for gradients in (inputs, products):
        _, explanations = MLP.judge_candidates({"w1": gradients["w1"]}, "FP32")
        assert [diagnosis.bug_name for diagnosis in explanations["w1"]] == ["low_precision"]
        assert "rounded to TF32 on the way" in explanations["w1"][0].explanation
        assert not PRECISIONS["TF32"].is_representable(gradients["w1"]).all()


def test_bias_gradient_keeps_its_digits_in_reduced_precision() -> None:
    _, products = compute_reduced_gradients("BF16").values()
    assert not PRECISIONS["BF16"].is_representable(products["b2"]).any()
    assert 0 < np.abs(products["b2"] - MLP.get_gradient("b2")).max() < 1e-2


def test_errors_of_the_size_of_a_precision_that_are_not_its_own_have_no_name() -> None:
    right, generator = MLP.get_gradient("w1"), np.random.default_rng(3)
    for size in (1e-5, 1e-4, 1e-3):
        wrong = right * (1 + size * generator.normal(size=right.shape))
        assert MLP.list_bug_names({"w1": wrong}) == {"w1": {"unknown"}}
