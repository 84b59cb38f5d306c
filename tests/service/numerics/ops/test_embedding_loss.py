import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

Cosine, Triplet = OP_REGISTRY["cosine_embedding_loss"], OP_REGISTRY["triplet_margin_loss"]


@pytest.mark.parametrize(
    ("name", "shapes", "words"),
    [
        ("cosine_embedding_loss", ((3, 4), (3, 4), (4,)), "with a target (N,)"),
        ("cosine_embedding_loss", ((4,), (5,), ()), "two inputs"),
        ("cosine_embedding_loss", ((2, 3, 4), (2, 3, 4), (2, 3)), "two inputs (N, D)"),
        ("triplet_margin_loss", ((3, 4), (3, 4), (3,)), "three inputs of one shape"),
    ],
)
def test_embedding_loss_refuses_mismatched_inputs(name, shapes, words):
    assert words in get_refusal(name, {}, *shapes)


@pytest.mark.parametrize(
    ("target", "margin", "loss"), [(1.0, 0.0, 0.4), (-1.0, 0.0, 0.6), (-1.0, 0.5, 0.1), (-1.0, 0.7, 0.0)]
)
def test_cosine_embedding_loss_equals_its_formula(target, margin, loss):
    a, b = np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])
    losses = Cosine(margin=margin, reduction="none").forward(a, b, np.array([target]))
    np.testing.assert_allclose(losses, loss, atol=1e-12)


def test_the_gradient_of_an_angle_is_orthogonal_to_the_vector():
    generator = np.random.default_rng(0)
    a, b, y = generator.normal(size=(1, 3, 4)), generator.normal(size=(1, 3, 4)), np.array([[1.0, -1.0, 1.0]])
    op = Cosine()
    by_a, by_b, by_y = op.backward(np.ones(1), op.forward(a, b, y), a, b, y)
    np.testing.assert_allclose((by_a * a).sum(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose((by_b * b).sum(axis=-1), 0, atol=1e-12)
    np.testing.assert_array_equal(by_y, 0)


@pytest.mark.parametrize(("margin", "swap", "loss"), [(1.0, False, 1.0), (1.0, True, 3.0), (1e-3, False, 1e-3)])
def test_triplet_margin_loss_equals_its_formula(margin, swap, loss):
    """d(a, p) = 3, d(a, n) = 3, d(p, n) = 1 or so: swapped the nearer of the two negatives counts."""
    anchor, positive, negative = np.array([[0.0, 0.0]]), np.array([[3.0, 0.0]]), np.array([[np.sqrt(9 - 0.25), 0.5]])
    far = np.linalg.norm(positive - negative)
    expected = 3 - (far if swap else 3) + margin
    losses = Triplet(margin=margin, swap=swap, reduction="none", eps=0.0).forward(anchor, positive, negative)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert loss == pytest.approx(expected, rel=0.2)


def test_a_triplet_far_enough_apart_has_no_gradient():
    anchor, positive, negative = np.zeros((1, 2)), np.zeros((1, 2)), np.full((1, 2), 50.0)
    for gradient in Triplet().backward(np.ones(1), np.zeros(1), anchor, positive, negative):
        np.testing.assert_array_equal(gradient, 0)


def test_kink_conventions_equal_those_of_pytorch():
    """The margin met exactly is not yet cut off; of two negatives equally near each has half."""
    a, b = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    np.testing.assert_allclose(Cosine().backward(np.ones(1), np.zeros(1), a, b, np.array([-1.0]))[0], [[0, 1]])
    anchor, positive, negative = np.array([[0.0, 0.0]]), np.array([[0.0, 2.0]]), np.array([[0.0, 1.0]])
    op = Triplet(swap=True, eps=0.0)
    by_anchor, by_positive, by_negative = op.backward(np.ones(1), np.zeros(1), anchor, positive, negative)
    np.testing.assert_array_equal(by_anchor, [[0, -0.5]])
    np.testing.assert_array_equal(by_positive, [[0, 0.5]])
    np.testing.assert_array_equal(by_negative, [[0, 0]])
    assert op.forward(anchor, positive, negative) == 2
