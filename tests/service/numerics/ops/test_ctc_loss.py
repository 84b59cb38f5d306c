import itertools
import math

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

Ctc = OP_REGISTRY["ctc_loss"]
TWO = {"input_lengths": [5, 4], "target_lengths": [2, 1]}


def collapse(path, blank):
    return [label for label, _ in itertools.groupby(path) if label != blank]


def sum_alignments(x, labels, blank):
    """The loss and its gradient from the list of all paths, C^T of them."""
    total, by_x = 0.0, np.zeros_like(x)
    for path in itertools.product(range(x.shape[1]), repeat=len(x)):
        if collapse(path, blank) == list(labels):
            probability = math.exp(sum(x[time, label] for time, label in enumerate(path)))
            total += probability
            by_x[np.arange(len(x)), path] += probability
    return (-math.log(total), -by_x / total) if total else (math.inf, by_x)


@pytest.mark.parametrize("labels", [[], [1], [1, 2], [2, 2], [0, 1, 0], [0, 0, 2]])
@pytest.mark.parametrize("blank", [3, 1])
def test_ctc_loss_is_the_sum_over_all_paths(labels, blank):
    if blank in labels:
        labels = [3 if label == blank else label for label in labels]
    x = np.random.default_rng(len(labels)).normal(size=(5, 4)) * 2
    op = Ctc(input_lengths=5, target_lengths=len(labels), blank=blank, reduction="sum")
    target = np.array([labels], np.int64)
    loss, by_x = sum_alignments(x, labels, blank)
    np.testing.assert_allclose(op.forward(x[None], target), loss, rtol=1e-13)
    np.testing.assert_allclose(
        op.backward(np.ones(1), np.zeros(1), x[None], target)[0][0], by_x, rtol=1e-12, atol=1e-15
    )
    for bug in ("add_exponential", "last_blank_forgotten", "scatter_without_accumulate"):
        if len(labels) > 2:
            wrong = op.bugs[bug].backward(op, np.ones(1), np.zeros(1), x[None], target)[0][0]
            assert not np.allclose(wrong, by_x, rtol=1e-3)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("in_a_row", [False, True])
def test_batches_equal_pytorch_on_normalised_probabilities(reduction, in_a_row):
    scores = torch.tensor(np.random.default_rng(0).normal(size=(6, 3, 4)), requires_grad=True)
    x = torch.log_softmax(scores, -1)
    lengths = [6, 4, 5], [3, 0, 2]
    rows = [[1, 1, 3], [2, 2, 2], [2, 1, 3]]
    target = np.array(
        [label for row, n in zip(rows, lengths[1], strict=True) for label in row[:n]] if in_a_row else rows
    )
    theirs = torch.nn.functional.ctc_loss(x, torch.tensor(target), *lengths, reduction=reduction)
    op = Ctc(input_lengths=lengths[0], target_lengths=lengths[1], reduction=reduction)
    ours = op.forward(x.detach().numpy()[None], target[None])
    np.testing.assert_allclose(ours[0], theirs.detach(), rtol=1e-13)
    cotangent = np.random.default_rng(1).normal(size=ours.shape)
    (by_scores,) = torch.autograd.grad(theirs, scores, torch.tensor(cotangent[0]), retain_graph=True)
    by_x = op.backward(cotangent, ours, x.detach().numpy()[None], target[None])[0]
    (through_softmax,) = torch.autograd.grad(x, scores, torch.tensor(by_x[0]), retain_graph=True)
    np.testing.assert_allclose(through_softmax, by_scores, rtol=1e-10, atol=1e-13)
    (of_pytorch,) = torch.autograd.grad(theirs, x, torch.tensor(cotangent[0]))
    with_exponential = op.bugs["add_exponential"].backward(op, cotangent, ours, x.detach().numpy()[None], target[None])
    np.testing.assert_allclose(with_exponential[0][0], of_pytorch, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("zero_infinity", [False, True])
def test_labels_without_an_alignment_have_no_finite_loss(zero_infinity):
    """Two equal labels take three times; the second sample has an alignment."""
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 3))
    target = np.array([[[1, 1], [1, 2]]])
    op = Ctc(input_lengths=[2, 2], target_lengths=[2, 2], reduction="none", zero_infinity=zero_infinity)
    losses = op.forward(x, target)
    assert losses[0, 0] == (0 if zero_infinity else np.inf)
    assert losses[0, 1] == pytest.approx(-x[0, 0, 1, 1] - x[0, 1, 1, 2])
    by_x = op.backward(np.ones((1, 2)), losses, x, target)[0]
    assert np.isfinite(by_x[0, :, 1]).all()
    assert (by_x[0, :, 0] == 0).all() if zero_infinity else np.isnan(by_x[0, :, 0]).any()
    leaf = torch.tensor(x[0], requires_grad=True)
    theirs = op.torch_forward(torch, leaf, torch.tensor(target[0]))
    np.testing.assert_allclose(losses[0], theirs.detach())
    theirs[1].backward()
    np.testing.assert_allclose(by_x[0, :, 1], leaf.grad[:, 1], atol=1e-15)


def test_probabilities_of_0_leave_the_other_alignments():
    with np.errstate(divide="ignore"):
        x = np.log(np.array([[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5], [0.25, 0.0, 0.75]]]))
    op = Ctc(input_lengths=3, target_lengths=1, reduction="none")
    loss = op.forward(x, np.array([[1]]))
    # Of the paths with label 1 alone: 0 1 0, 1 1 0; the others have a factor of 0.
    np.testing.assert_allclose(np.exp(-loss), 0.5 * 0.5 * 0.25 * 2)
    by_x = op.backward(np.ones(1), loss, x, np.array([[1]]))[0]
    np.testing.assert_allclose(by_x[0], [[-0.5, -0.5, 0], [0, -1, 0], [-1, 0, 0]])


def test_long_sequences_neither_underflow_nor_lose_digits():
    """T times C equal classes: the loss is T log C less the logarithm of the number of paths."""
    times, x = 400, np.full((1, 400, 3), -math.log(3))
    op = Ctc(input_lengths=times, target_lengths=1, reduction="sum")
    # One run of the label among blanks: T (T + 1) / 2 paths.
    expected = times * math.log(3) - math.log(times * (times + 1) / 2)
    np.testing.assert_allclose(op.forward(x, np.array([[1]])), expected, rtol=1e-13)
    by_x = op.backward(np.ones(1), np.zeros(1), x, np.array([[1]]))[0]
    np.testing.assert_allclose(by_x.sum(axis=-1), -1, rtol=1e-11)


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        (TWO, ((5, 2), (2, 2)), "input_lengths with a number for each of 1 samples"),
        (TWO | {"input_lengths": 5}, ((5, 2, 3), (2, 2)), "input_lengths with a number for each of 2 samples"),
        (TWO, ((4, 2, 3), (2, 2)), "input_lengths up to 4"),
        (TWO | {"blank": 3}, ((5, 2, 3), (2, 2)), "a blank from 0 to 2"),
        (TWO, ((5, 2, 3), (2, 1)), "targets (2, S) with S at least 2, or all in a row, (3,)"),
        (TWO, ((5, 2, 3), (4,)), "all in a row, (3,)"),
        (TWO, ((5,), (4,)), "log_probs (T, N, C) or (T, C)"),
    ],
)
def test_ctc_loss_refuses_mismatched_inputs(attributes, shapes, words):
    assert words in get_refusal("ctc_loss", attributes, *shapes)


def test_labels_that_count_are_in_range_and_no_blank():
    op = Ctc(**TWO)
    op.check_values(((5, 2, 3), (2, 2)), None, np.array([[1, 2], [2, -7]]))
    for labels in ([[1, 0], [2, 2]], [[1, 3], [2, 2]], [[-1, 1], [2, 2]]):
        with pytest.raises(ShapeError, match="labels from 0 to 2 other than the blank, 0"):
            op.check_values(((5, 2, 3), (2, 2)), None, np.array(labels))
