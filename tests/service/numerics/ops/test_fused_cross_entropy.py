import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from service.numerics.core.batching import add_batch_axis
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

GENERATOR = np.random.default_rng(0)
X, W, B = GENERATOR.normal(size=(5, 3)), GENERATOR.normal(size=(4, 3)), GENERATOR.normal(size=4)
LABELS = np.array([0, -100, 3, 1, 1])
COUNTED = LABELS != -100


def evaluate(x: np.ndarray, w: np.ndarray, target: np.ndarray, b: np.ndarray | None = B, **attributes: object):
    leaves = {"x": x, "w": w, "target": target} | ({} if b is None else {"b": b})
    node = Node(
        "y", OP_REGISTRY["linear_cross_entropy"](**attributes), ("x", "w", "target", None if b is None else "b", None)
    )
    graph = Graph(
        [node, Node("loss", OP_REGISTRY["sum"](), ("y",))],
        {name: leaf.shape for name, leaf in leaves.items()},
        {"target": "index"} if target.dtype.kind == "i" else {},
    )
    values = graph.forward({name: add_batch_axis(leaf) for name, leaf in leaves.items()})
    return values["y"][0], {name: array[0] for name, array in graph.backward(values).items()}


def compute_rows(cap: float | None, smoothing: float, penalty: float) -> np.ndarray:
    """The loss of each row by the definition."""
    logits = X @ W.T + B
    if cap is not None:
        logits = cap * np.tanh(logits / cap)
    logarithms = log_softmax(logits, axis=-1)
    own = np.take_along_axis(logarithms, np.maximum(LABELS, 0)[:, None], axis=-1)[:, 0]
    losses = -(1 - smoothing) * own - smoothing * logarithms.mean(-1) + penalty * logsumexp(logits, axis=-1) ** 2
    return np.where(COUNTED, losses, 0)


@pytest.mark.parametrize("penalty", [0.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("cap", [None, 1.5])
def test_loss_is_that_of_the_definition(cap, smoothing, penalty) -> None:
    rows = compute_rows(cap, smoothing, penalty)
    attributes = {"softcap": cap, "label_smoothing": smoothing, "z_loss": penalty}
    for reduction, expected in {"none": rows, "sum": rows.sum(), "mean": rows.sum() / 4}.items():
        loss, _ = evaluate(X, W, LABELS, reduction=reduction, **attributes)
        np.testing.assert_allclose(loss, expected, rtol=1e-13)


def test_ignored_row_has_no_gradient_even_with_a_penalty() -> None:
    _, gradients = evaluate(X, W, LABELS, z_loss=0.3, softcap=2.0)
    np.testing.assert_array_equal(gradients["x"][1], 0)
    assert (gradients["x"][COUNTED] != 0).all()


@pytest.mark.parametrize("form", ["labels", "probabilities", "one row", "several places"])
def test_loss_and_gradients_are_those_of_pytorch(form: str) -> None:
    """PyTorch has the function without softcap and z-loss."""
    x, w, b, target = X, W, B, LABELS
    if form == "probabilities":
        target = GENERATOR.dirichlet(np.ones(4), 5)
    elif form == "one row":
        x, target = X[0], np.array(2)
    elif form == "several places":
        w, b, target = np.stack([W, 2 * W], 1), np.stack([B, -B], 1), np.stack([LABELS, LABELS[::-1]], 1)
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in (x, w, b)]
    expected = torch.nn.functional.linear_cross_entropy(
        leaves[0], leaves[1], torch.tensor(target), linear_bias=leaves[2], label_smoothing=0.1
    )
    expected.backward()
    loss, gradients = evaluate(x, w, target, b, label_smoothing=0.1)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    for name, leaf in zip("xwb", leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(gradients[name], leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_leading_axes_are_rows() -> None:
    attributes = {"softcap": 2.0, "z_loss": 0.1}
    x, target = np.stack([X, X[::-1]]), np.stack([LABELS, LABELS[::-1]])
    loss, gradients = evaluate(x, W, target, **attributes)
    expected, of_rows = evaluate(x.reshape(-1, 3), W, target.ravel(), **attributes)
    np.testing.assert_allclose(loss, expected, rtol=1e-14)
    np.testing.assert_allclose(gradients["x"].reshape(-1, 3), of_rows["x"], rtol=1e-12, atol=1e-16)


def test_penalty_of_probabilities_averages_over_all_rows() -> None:
    target = GENERATOR.dirichlet(np.ones(4), 5)
    with_penalty, without = (evaluate(X, W, target, z_loss=penalty)[0] for penalty in (0.5, 0.0))
    expected = 0.5 * np.square(logsumexp(X @ W.T + B, axis=-1)).mean()
    np.testing.assert_allclose(with_penalty - without, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((5, 3), (4, 2), (5,), None, None), "the same length in"),
        (((), (4, 3), (), None, None), "the same length in"),
        (((2, 5, 3), (4, 2, 3), (2, 5), None, None), "an input (N, in)"),
        (((5, 3), (4, 3), (5,), (3,), None), "a linear_bias of shape [4]"),
        (((5, 3), (4, 3), (4,), None, None), "labels of shape [5]"),
        (((5, 3), (4, 3), (5,), None, (3,)), "a weight of shape [4]"),
    ],
)
def test_linear_cross_entropy_refuses_by_name(shapes, words) -> None:
    assert words in get_refusal("linear_cross_entropy", {}, *shapes)
