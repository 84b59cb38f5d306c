import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("cross_entropy", ((), (), None), "an input (C,) or (N, C, ...)"),
        ("cross_entropy", ((3, 4), (4,), None), "labels of shape [3] or probabilities of shape [3, 4]"),
        ("cross_entropy", ((3, 4), (3,), (3,)), "a weight of shape [4]"),
        ("nll_loss", ((3, 4), (3, 4), None), "labels of shape [3] for an input [3, 4]"),
        ("nll_loss", ((3, 4), (3,), ()), "a weight of shape [4]"),
    ],
)
def test_class_loss_refuses_mismatched_inputs(name, shapes, words):
    assert words in get_refusal(name, {}, *shapes)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize(("labels", "fits"), [([0, 3], True), ([0, -100], True), ([0, 4], False), ([-1, 0], False)])
def test_labels_lie_within_the_classes_or_are_ignored(name, labels, fits):
    op = OP_REGISTRY[name]()
    values = ((2, 4), (2,), ()), None, np.array(labels), None
    if fits:
        op.check_values(*values)
    else:
        with pytest.raises(ShapeError, match=r"labels from 0 to 3, or ignore_index \(-100\)"):
            op.check_values(*values)


@pytest.mark.parametrize("target", [np.array([0.0, 2.0]), None])
def test_labels_are_integers(target):
    """Of floats, or what a node computes, are probabilities, and those have the shape of the input."""
    op = OP_REGISTRY["cross_entropy"]()
    with pytest.raises(ShapeError, match=r"integers as labels of shape \[2\], or probabilities of shape \[2, 4\]"):
        op.check_values(((2, 4), (2,), ()), None, target, None)
    op.check_values(((2, 4), (2, 4), ()), None, None, None)


def test_probabilities_have_no_label_to_ignore():
    assert "labels of shape [2]" in get_refusal("cross_entropy", {"ignore_index": 1}, (2, 4), (2, 4), None)


def test_confident_prediction_keeps_its_digits():
    """-log p of p = 1 - 4e-44 is 4e-44, not 0; and nothing overflows at 1e8."""
    op = OP_REGISTRY["cross_entropy"]()
    x = np.array([[[0.0, -100.0]]])
    np.testing.assert_allclose(
        op.backward(np.ones(1), np.zeros(1), x, np.array([[0]]), None)[0][0, 0, 1], np.exp(-100.0)
    )
    large = np.array([[[1e8, -1e8]]])
    assert op.forward(large, np.array([[1]]), None) == 2e8


def test_labels_and_one_hot_probabilities_are_the_same():
    generator = np.random.default_rng(0)
    x, labels = generator.normal(size=(1, 5, 3)), np.array([[0, 2, 1, 1, 0]])
    op = OP_REGISTRY["cross_entropy"](label_smoothing=0.1)
    hot = np.eye(3)[labels]
    np.testing.assert_allclose(op.forward(x, labels, None), op.forward(x, hot, None))
    by_labels, by_hot = (op.backward(np.ones(1), np.zeros(1), x, target, None)[0] for target in (labels, hot))
    np.testing.assert_allclose(by_labels, by_hot, atol=1e-16)


def test_nll_of_log_softmax_is_cross_entropy():
    generator = np.random.default_rng(0)
    x, labels, weight = generator.normal(size=(1, 5, 3)), np.array([[0, 2, -100, 1, 0]]), np.array([[1.0, 2, 3]])
    logarithms = OP_REGISTRY["log_softmax"](dim=1).forward(x)
    for reduction in ("none", "sum", "mean"):
        np.testing.assert_allclose(
            OP_REGISTRY["nll_loss"](reduction=reduction).forward(logarithms, labels, weight),
            OP_REGISTRY["cross_entropy"](reduction=reduction).forward(x, labels, weight),
            atol=1e-15,
        )
