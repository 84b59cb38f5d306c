import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

MultiMargin, MultilabelMargin = OP_REGISTRY["multi_margin_loss"], OP_REGISTRY["multilabel_margin_loss"]


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("multi_margin_loss", ((3, 4), (4,), None), "with a target (N,)"),
        ("multi_margin_loss", ((2, 3, 4), (2, 3), None), "an input (N, C)"),
        ("multi_margin_loss", ((3, 4), (3,), (3,)), "a weight of shape [4]"),
        ("multilabel_margin_loss", ((3, 4), (3,)), "of the same shape"),
    ],
)
def test_margin_loss_refuses_mismatched_inputs(name, shapes, words):
    assert words in get_refusal(name, {}, *shapes)


def test_labels_out_of_range_are_refused():
    for op, labels, words in (
        (MultiMargin(), [0, 4], "labels from 0 to 3"),
        (MultiMargin(), [0, -1], "labels from 0 to 3"),
        (MultilabelMargin(), [[0, 1, 2, -2], [0, 0, 0, 0]], "and -1 behind the last"),
    ):
        with pytest.raises(ShapeError, match=words):
            op.check_values(((2, 4), np.shape(labels)), None, np.array(labels))


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("margin", [1.0, 0.0, -0.5])
def test_multi_margin_loss_equals_its_documented_sum(p, margin):
    generator = np.random.default_rng(0)
    x, w, y = generator.normal(size=(4, 5)), generator.normal(size=5), np.array([1, 4, 1, 0])
    losses = MultiMargin(p=p, margin=margin, reduction="none").forward(x[None], y[None], w[None])[0]
    for sample in range(4):
        others = [i for i in range(5) if i != y[sample]]
        hinges = [max(0, margin - x[sample, y[sample]] + x[sample, i]) ** p for i in others]
        assert losses[sample] == pytest.approx(w[y[sample]] * sum(hinges) / 5, rel=1e-14, abs=1e-15)


def test_multilabel_margin_loss_takes_labels_before_the_first_end():
    """Labels behind the first -1 do not count, and one that is repeated counts twice, as in PyTorch."""
    x = np.random.default_rng(1).normal(size=(4, 4))
    target = np.array([[3, 0, -1, 1], [-1, 0, 1, 2], [2, 2, 1, -1], [0, 1, 2, 3]])
    op = MultilabelMargin(reduction="none")
    losses = op.forward(x[None], target[None])[0]
    for sample, labels in enumerate([[3, 0], [], [2, 2, 1], [0, 1, 2, 3]]):
        others = [i for i in range(4) if i not in labels]
        expected = sum(max(0, 1 - x[sample, j] + x[sample, i]) for j in labels for i in others) / 4
        assert losses[sample] == pytest.approx(expected, rel=1e-14)
    leaf = torch.tensor(x, requires_grad=True)
    theirs = op.torch_forward(torch, leaf, torch.tensor(target))
    np.testing.assert_allclose(losses, theirs.detach(), rtol=1e-14)
    (by_torch,) = torch.autograd.grad(theirs.sum(), leaf)
    by_hand = op.backward(np.ones((1, 4)), losses[None], x[None], target[None])[0]
    np.testing.assert_allclose(by_hand[0], by_torch, rtol=1e-14)
    flipped = op.backward(np.ones((1, 4)), losses[None], x[None], np.flip(target[None], -1))[0]
    assert not np.allclose(flipped[0], by_torch)


@pytest.mark.parametrize(
    ("op", "target"), [(MultiMargin(), [[1, 0]]), (MultilabelMargin(), [[[1, -1, 0], [0, 2, -1]]])]
)
def test_a_margin_met_exactly_gives_no_gradient_as_in_pytorch_and_is_a_choice(op, target):
    x, y = np.array([[[0.0, 1.0, 0.5], [2.0, 0.5, 1.0]]]), np.array(target)
    others = (None,) if isinstance(op, MultiMargin) else ()
    leaf = torch.tensor(x[0], requires_grad=True)
    theirs = op.torch_forward(torch, leaf, torch.tensor(y[0]), *others)
    (by_torch,) = torch.autograd.grad(theirs, leaf)
    np.testing.assert_array_equal(op.backward(np.ones(1), np.zeros(1), x, y, *others)[0][0], by_torch)
    choices = op.list_subgradient_choices([np.zeros_like(x), None, None], x, y, *others)
    assert choices is not None
    assert choices.is_exact_tie.all()
    assert set(choices.entry_elements[np.flatnonzero(choices.entry_coefficients > 0)]) <= set(range(6))
    np.testing.assert_allclose(np.abs(choices.entry_coefficients), 1 / 6)
    moved = op.list_subgradient_choices([np.zeros_like(x), None, None], x + np.array([0.1, 0.3, 0.7]), y, *others)
    assert moved is None


def test_a_square_has_no_kink_at_the_margin():
    x = np.array([[[0.0, 1.0]]])
    assert MultiMargin(p=2).list_subgradient_choices([np.zeros_like(x)], x, np.array([[1]]), None) is None
