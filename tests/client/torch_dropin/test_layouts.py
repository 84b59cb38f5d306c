"""Complex, sparse, missing, empty, expanded and lazily negated tensors, as torch defines them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from gradcheckd.torch import GradientMismatchError, gradcheck
from tests.client.torch_dropin.planted_functions import draw, flip_sign, keep, make_square, scale_all, scale_one

COMPLEX: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "holomorphic": (torch.exp, (draw(3, dtype=torch.complex128),)),
    "conjugate": (lambda z: z * z.conj() + z.exp(), (draw(3, dtype=torch.complex128),)),
    "to real": (torch.abs, (draw(3, dtype=torch.complex128),)),
    "to real number": (lambda z: z.real.sum() * z.imag.sum(), (draw(3, dtype=torch.complex128),)),
    "from real": (lambda x: torch.polar(x.abs(), x), (draw(3),)),
    "mixed": (lambda z, x: (z * x, x.exp()), (draw(3, dtype=torch.complex128), draw(3))),
    "number": (torch.sin, (draw(dtype=torch.complex128),)),
    "complex64": (torch.exp, (draw(3, dtype=torch.complex64),)),
    "conjugate output": (torch.conj, (draw(3, dtype=torch.complex128),)),
    "negative output": (lambda z: z.conj().imag, (draw(3, dtype=torch.complex128),)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_gradient_passes_in_both_modes(name: str) -> None:
    func, inputs = COMPLEX[name]
    assert gradcheck(func, inputs, check_forward_ad=True)


@pytest.mark.parametrize("alter", [scale_one, flip_sign, scale_all, torch.conj])
def test_wrong_complex_gradient_fails(alter: Callable[[Tensor], Tensor]) -> None:
    z = draw(3, dtype=torch.complex128)
    with pytest.raises(GradientMismatchError, match=r"a last index of 0 \(real part\) or 1 \(imaginary part\)"):
        gradcheck(make_square(alter), z)
    with pytest.raises(GradientMismatchError, match="Jacobian computed with forward mode mismatch"):
        gradcheck(make_square(keep, alter), z, check_forward_ad=True, check_backward_ad=False)
    with pytest.raises(GradientMismatchError):
        gradcheck(lambda x: make_square(alter)(torch.complex(x, x.sin())).real, draw(3))


def test_lazily_conjugated_and_negated_inputs_pass() -> None:
    conjugated = draw(3, dtype=torch.complex128).detach().conj().requires_grad_()
    negated = draw(3, dtype=torch.complex128, seed=1).detach().conj().imag.requires_grad_()
    assert conjugated.is_conj()
    assert negated.is_neg()
    before = conjugated.clone(), negated.clone()
    assert gradcheck(lambda a, b: (a * b).exp(), (conjugated, negated))
    assert torch.equal(conjugated, before[0])
    assert torch.equal(negated, before[1])
    with pytest.raises(GradientMismatchError, match="with respect to input 0"):
        gradcheck(make_square(flip_sign), conjugated)


def test_gradient_with_the_conjugate_or_negative_bit_is_read() -> None:
    def conjugate_lazily(gradient: Tensor) -> Tensor:
        return gradient.conj_physical().conj()

    def negate_lazily(gradient: Tensor) -> Tensor:
        return torch.complex(torch.zeros_like(gradient), -gradient).conj().imag

    assert conjugate_lazily(draw(3, dtype=torch.complex128)).is_conj()
    assert negate_lazily(draw(3)).is_neg()
    assert gradcheck(make_square(conjugate_lazily), draw(3, dtype=torch.complex128))
    assert gradcheck(make_square(negate_lazily), draw(3))


def test_non_contiguous_inputs_pass() -> None:
    x = torch.arange(12.0, dtype=torch.float64).reshape(3, 4)
    before = x.clone()
    assert gradcheck(torch.sin, x.t().requires_grad_())
    assert gradcheck(torch.sin, x.detach()[:, ::2].requires_grad_())
    assert gradcheck(torch.sin, x.detach().clone().requires_grad_().t())
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    "expand",
    [
        lambda gradient: gradient.sum().expand(3),
        lambda gradient: torch.stack([gradient.sum()] * 6)[::2],
    ],
)
def test_expanded_and_non_contiguous_gradients_are_read(expand: Callable[[Tensor], Tensor]) -> None:
    class Sum(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.sum()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return expand(gradient)

    assert gradcheck(Sum.apply, draw(3))
    with pytest.raises(GradientMismatchError):
        gradcheck(lambda x: Sum.apply(2 * x.detach() - x), draw(3))


def make_product_without_second_gradient() -> Callable[[Tensor, Tensor], Tensor]:
    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
            ctx.save_for_backward(y)
            return x * y

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            return gradient * ctx.saved_tensors[0], None

    return Product.apply


def test_gradient_of_none_is_zero() -> None:
    assert gradcheck(lambda x, y: x.sin(), (draw(3), draw(3)))
    with pytest.raises(GradientMismatchError, match=r"for output 0 with respect to input 1: .*zero"):
        gradcheck(make_product_without_second_gradient(), (draw(3), draw(3)))


def test_empty_tensors_pass() -> None:
    assert gradcheck(torch.sin, draw(0, 3))
    assert gradcheck(lambda x, y: (x.sin(), y * y), (draw(0, 3), draw(3)), check_forward_ad=True)
    assert gradcheck(lambda x: (x[:0], x.sin()), draw(3))
    with pytest.raises(GradientMismatchError, match="output 1 with respect to input 1"):
        gradcheck(lambda x, y: (x.sin(), make_square(flip_sign)(y)), (draw(0, 3), draw(3)))


# The first tensor of a layout in a process warns, whichever test makes it.
IGNORES_BETA_LAYOUTS = pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]


def make_sparse(layout: torch.layout) -> Tensor:
    dense = draw(4, 6).detach() * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(6).reshape(4, 6).double()
    blocks = (2, 2) if layout in (torch.sparse_bsr, torch.sparse_bsc) else None
    return dense.to_sparse(layout=layout, blocksize=blocks).requires_grad_()


@IGNORES_BETA_LAYOUTS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("masked", [False, True])
def test_sparse_input_passes_by_its_own_meaning_of_missing_elements(layout: torch.layout, masked: bool) -> None:
    x = make_sparse(layout)
    before = x.detach().clone()
    right = make_square(keep)
    assert gradcheck(lambda x: right(x.to_dense(masked_grad=masked)), x, masked=masked, check_undefined_grad=False)
    assert torch.equal(x.detach().to_dense(), before.to_dense())
    # Torch says the same.
    assert torch.autograd.gradcheck(
        lambda x: right(x.to_dense(masked_grad=masked)), x, masked=masked, check_undefined_grad=False
    )


@IGNORES_BETA_LAYOUTS
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("alter", [flip_sign, scale_all])
def test_wrong_gradient_of_a_sparse_input_fails(
    layout: torch.layout, masked: bool, alter: Callable[[Tensor], Tensor]
) -> None:
    wrong = make_square(alter)
    with pytest.raises(GradientMismatchError, match="for output 0 with respect to input 0"):
        gradcheck(lambda x: wrong(x.to_dense(masked_grad=masked)), make_sparse(layout), masked=masked)


def test_masked_gradient_of_a_function_that_reads_zeros_fails() -> None:
    with pytest.raises(GradientMismatchError):
        gradcheck(lambda x: (x.to_dense(masked_grad=True) + 1) ** 2, make_sparse(torch.sparse_coo), masked=False)
    with pytest.raises(GradcheckError, match="numbers where the input has none"):
        gradcheck(lambda x: (x.to_dense(masked_grad=False) + 1) ** 2, make_sparse(torch.sparse_coo), masked=True)


def test_sparse_input_with_dense_axes_and_repeated_indices_passes() -> None:
    indices = torch.tensor([[0, 2, 2]])
    x = torch.sparse_coo_tensor(indices, draw(3, 4).detach(), (3, 4)).requires_grad_()
    assert gradcheck(lambda x: torch.sin(x.to_dense(masked_grad=True)), x, masked=True)


def test_gradient_of_another_shape_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    differentiate = torch.autograd.grad
    # Autograd itself expands or refuses such gradients.
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *arguments, **options: [g[:2] for g in differentiate(*arguments, **options)]
    )
    with pytest.raises(GradcheckError, match=r"incorrect size: \[2\]; input 0 has \[3\]"):
        gradcheck(torch.sin, draw(3))
