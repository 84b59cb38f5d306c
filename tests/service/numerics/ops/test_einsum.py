import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("equation", "shapes", "words"),
    [
        ("i..,j->i", ((2, 3), (3,)), "an equation of letters"),
        ("ij...,j->i", ((2,), (3,)), "2 axes for 'ij'"),
        ("ii,i->i", ((2, 1), (2,)), "one length for 'i'"),
        ("ij,jk->ik", ((2, 3),), "as many operands as the node"),
        (",".join("i" * 17), ((2,),) * 17, "16 at most"),
        ("ij,jk->ii", ((2, 3), (3, 4)), "different letters"),
        ("ij,jk->iz", ((2, 3), (3, 4)), "stands in an operand"),
        ("ij,jk->ik", ((2, 3), (4, 5)), "axes of one length for 'j'"),
        ("ij,jk->ik", ((2, 3, 1), (3, 5)), "2 axes for 'ij'"),
        ("ij.jk->ik", ((2, 3), (3, 5)), "an equation of letters"),
        ("....ij", ((2, 3),), "an equation of letters"),
        ("...i...j", ((2, 3),), "an equation of letters"),
        ("ij->ij->i", ((2, 3),), "an equation of letters"),
        ("i1,1j", ((2, 3), (3, 2)), "an equation of letters"),
        ("", ((2, 3),), "0 axes for ''"),
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


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
        ("i,i,i,i", [(3,)] * 4),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ba", [(2, 3)]),
        ("...ij,...jk", [(2, 3, 4), (4, 2)]),
        ("ii->i", [(3, 3)]),
        ("...ii->...i", [(2, 3, 3)]),
        ("bB,b", [(2, 3), (2,)]),
        ("iij,j...,k->k...", [(2, 2, 3), (3, 2), (2,)]),
        (" i j , j k -> i k ", [(2, 3), (3, 4)]),
        ("...,...->...", [(2, 3), (3,)]),
        ("...->", [(2, 3)]),
        ("ij->...i", [(2, 3)]),
        ("...", [(2, 3)]),
        ("i...->i", [(2, 3, 4)]),
        ("a...,...b->ab...", [(2, 3), (3, 4)]),
        (",->", [(), ()]),
        (",ij", [(), (2, 3)]),
        ("...,i", [(), (3,)]),
        ("iii->i", [(2, 2, 2)]),
        ("ii,ii", [(2, 2), (2, 2)]),
        ("Aa,aZ->AZ", [(2, 3), (3, 4)]),
    ],
)
def test_equations_are_those_of_pytorch(equation: str, shapes: list[tuple[int, ...]]) -> None:
    generator = np.random.default_rng(0)
    op = OP_REGISTRY["einsum"](equation=equation)
    arrays = [generator.normal(size=(1, *shape)) for shape in shapes]
    tensors = [torch.tensor(array[0], requires_grad=True) for array in arrays]
    expected = torch.einsum(equation, *tensors)
    output = op.forward(*arrays)
    np.testing.assert_allclose(output[0], expected.detach().numpy(), rtol=1e-13)
    gradient = generator.normal(size=output.shape)
    expected.backward(torch.tensor(gradient[0]))
    for result, tensor in zip(op.backward(gradient, output, *arrays), tensors, strict=True):
        assert result is not None
        np.testing.assert_allclose(result[0], tensor.grad.numpy(), rtol=1e-12, atol=1e-14)  # type: ignore[union-attr]
