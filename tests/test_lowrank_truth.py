"""The truth on second derivatives of low-rank decompositions, held against functions that are right and wrong."""

import mpmath
import pytest
import torch

from benchmarks.lowrank_truth import decompose, measure_second_order_errors
from benchmarks.operator_samples import SECTIONS, OperatorSample, draw_samples, list_operators
from benchmarks.operator_tables import FORMULA_OFF
from benchmarks.operator_truth import LOW_RANK_OPERATORS, describe_second_order

pytestmark = pytest.mark.no_cover
SECTION = next(section for section in SECTIONS if section.name == "complex, second order")
RIGHT_ERROR = 1e-10


def draw_factors(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 2, dtype=torch.complex128, generator=generator).requires_grad_() for rows in (3, 4))


def invert_root(square):
    """Return C^(-1/2) and the eigenvalues of a 2 x 2 Hermitian matrix, without a decomposition."""
    trace, root = square.diagonal().sum().real, torch.linalg.det(square).real.sqrt()
    modulus = (square + root * torch.eye(2, dtype=square.dtype)) / (trace + 2 * root).sqrt()
    spread = ((trace / 2) ** 2 - root**2).sqrt()
    return torch.linalg.inv(modulus), torch.stack([trace / 2 + spread, trace / 2 - spread])


def decompose_plainly(left, right, *, center=False):
    """Return U V^H and the singular values: with A = a b^T, those of (a^H a)^(1/2) b^T."""
    if center:
        left = left - left.mean(0, keepdim=True)
    inverse, _ = invert_root(left.mH @ left)
    # Orthonormal columns, and what is left of A.
    basis, rest = left @ inverse, inverse @ left.mH @ left @ right.mT
    inner, squares = invert_root(rest @ rest.mH)
    return basis @ inner @ rest, squares.sqrt()


def make_sample(function, name="plain[0]"):
    return OperatorSample(name, function, draw_factors(), 0.0)


@pytest.mark.parametrize("center", [False, True])
def test_the_closed_form_is_the_decomposition_of_torch(center):
    left, right = (tensor.detach() for tensor in draw_factors())
    factor, values = decompose(*(mpmath.matrix(each.tolist()) for each in (left, right)), is_centred=center)
    matrix = (left - left.mean(0, keepdim=True) if center else left) @ right.mT
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    close = torch.tensor([[complex(number) for number in row] for row in factor.tolist()], dtype=u.dtype)
    torch.testing.assert_close(u[:, :2] @ vh[:2], close, rtol=0, atol=1e-12)
    torch.testing.assert_close(s[:2], torch.tensor([float(value) for value in values], dtype=s.dtype))


@pytest.mark.parametrize("center", [False, True])
def test_second_derivatives_that_are_right_are_not_off(center):
    sample = make_sample(lambda left, right: decompose_plainly(left, right, center=center))
    errors = measure_second_order_errors(sample, is_centred=center, trials=1)
    assert errors.formula < RIGHT_ERROR
    assert errors.differences < 1e-6


def test_second_derivatives_that_are_wrong_are_off():
    class Doubtful(torch.autograd.Function):
        """The identity, whose second derivative is off: the gradient is right, and its graph is not."""

        @staticmethod
        def forward(x):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, gradient):
            return gradient + 1e-7 * (gradient - gradient.detach())

    sample = make_sample(lambda left, right: decompose_plainly(Doubtful.apply(left), right))
    assert measure_second_order_errors(sample, is_centred=False, trials=1).formula > 1e-9


def test_the_named_operators_round_worse_than_that():
    assert {operator for section, operator in FORMULA_OFF if section == SECTION.name} == {*LOW_RANK_OPERATORS}
    for operator in list_operators(SECTION, LOW_RANK_OPERATORS):
        samples = list(draw_samples(operator, SECTION, 0))
        texts = [describe_second_order(sample) for sample in samples]
        assert max(float(text.split()[2].rstrip(",")) for text in texts) > RIGHT_ERROR
