import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("equation", "shapes", "words"),
    [
        ("ij,jk", ((2, 3), (3, 4)), "an explicit equation"),
        ("i..,j->i", ((2, 3), (3,)), "an explicit equation"),
        ("ij...,j->i", ((2,), (3,)), "2 axes for 'ij'"),
        ("ii,i->i", ((2, 1), (2,)), "one length for 'i'"),
        ("ij,jk->ik", ((2, 3),), "as many operands as the node"),
        ("i,i,i->i", ((2,), (2,), (2,)), "two at most"),
        ("ij,jk->ii", ((2, 3), (3, 4)), "different letters"),
        ("ij,jk->iz", ((2, 3), (3, 4)), "stands in an operand"),
        ("ij,jk->ik", ((2, 3), (4, 5)), "axes of one length for 'j'"),
        ("ij,jk->ik", ((2, 3, 1), (3, 5)), "2 axes for 'ij'"),
    ],
)
def test_einsum_refuses_mismatched_inputs(equation, shapes, words):
    assert words in get_refusal("einsum", {"equation": equation}, *shapes)


EQUATIONS = [
    "ij,jk->ik",
    "ij,kj->ik",
    "bij,bjk->bik",
    "i,j->ij",
    "ii,i->",
    "ij,->ji",
    "iij,jk->k",
    "abc,cd->",
    "ij,ij->ij",
]


@pytest.mark.parametrize("equation", EQUATIONS)
def test_the_gradient_of_an_einsum_is_its_adjoint(equation):
    """<g, E(da, b)> = <E*(g, b), da> for any g and da, by which the adjoint is defined."""
    generator = np.random.default_rng(0)
    lengths = dict(zip("abcdijk", (2, 3, 4, 5, 3, 4, 2), strict=True))
    shapes = [tuple(lengths[letter] for letter in part) for part in equation.split("->")[0].split(",")]
    a, b, da, db = (generator.normal(size=(1, *shape)) for shape in (*shapes, *shapes))
    op = OP_REGISTRY["einsum"](equation=equation)
    output = op.forward(a, b)
    g = generator.normal(size=output.shape)
    by_a, by_b = op.backward(g, output, a, b)
    np.testing.assert_allclose((g * op.forward(da, b)).sum(), (by_a * da).sum(), rtol=1e-12)
    np.testing.assert_allclose((g * op.forward(a, db)).sum(), (by_b * db).sum(), rtol=1e-12)
