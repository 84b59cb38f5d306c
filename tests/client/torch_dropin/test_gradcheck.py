"""First derivatives: right ones pass, planted errors fail with the output and the input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from gradcheckd import GradcheckdError, TensorError
from gradcheckd.torch import GradientMismatchError, gradcheck, use_directions
from tests.client.torch_dropin.planted_functions import (
    double_one,
    draw,
    flip_sign,
    keep,
    make_square,
    scale_all,
    scale_one,
)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (torch.tanh, (draw(3, 4),)),
    "matrix product": (torch.matmul, (draw(3, 4), draw(4, 2, seed=1))),
    "large": (lambda x: x.sin() * x, (draw(10, 10),)),
    "number": (lambda x: x.exp().sum(), (draw(3),)),
    "number by number": (torch.exp, (draw(),)),
    "solve": (torch.linalg.solve, (draw(3, 3), draw(3, 2, seed=1))),
    "norm": (torch.linalg.vector_norm, (draw(5),)),
    "layer norm": (lambda x: torch.nn.functional.layer_norm(x, (5,)), (draw(3, 5),)),
    "several outputs": (lambda x: (x.sin(), x.exp()), (draw(3),)),
    "list of outputs": (lambda x: [x.sin(), x.exp()], (draw(3),)),
    "outputs of unequal sizes": (lambda x: (1e13 * x.sin(), x.exp()), (draw(3),)),
    "output without a gradient": (lambda x: (x.sin(), x > 0, x.detach(), x.round()), (draw(3),)),
    "input without a gradient": (lambda x, n, y: x * y + n, (draw(3), 2, torch.ones(3))),
    "unused input": (lambda x, y: x.sin(), (draw(3), draw(3))),
    "output that is a view": (lambda x: x.T, (draw(3, 2),)),
    "float32": (torch.tanh, (draw(3, 4, dtype=torch.float32),)),
    "kink nearby": (torch.relu, (torch.tensor([1e-3, -2e-3, 1.0], dtype=torch.float64).requires_grad_(),)),
    "domain nearby": (torch.log, (torch.tensor([1e-3, 1.0], dtype=torch.float64).requires_grad_(),)),
    "shape by numbers": (
        lambda x: x[x > 0.05],
        (torch.tensor([0.1, 1.0, -0.4], dtype=torch.float64).requires_grad_(),),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("fast_mode", [False, True])
def test_right_gradient_passes(name: str, fast_mode: bool) -> None:
    func, inputs = FUNCTIONS[name]
    before = [value.clone() if isinstance(value, Tensor) else value for value in inputs]
    assert gradcheck(func, inputs, fast_mode=fast_mode)
    for value, copy in zip(inputs, before, strict=True):
        assert not isinstance(value, Tensor) or torch.equal(value, copy), "inputs are moved back"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_torch_agrees_on_float64(name: str) -> None:
    func, inputs = FUNCTIONS[name]
    # Torch's differences neither see float32 nor take outputs of Booleans.
    if name not in ("float32", "output without a gradient"):
        assert torch.autograd.gradcheck(func, inputs, atol=1e3 if "unequal" in name else 1e-5)


ERRORS = [scale_one, double_one, flip_sign, scale_all]


@pytest.mark.parametrize("alter", ERRORS)
@pytest.mark.parametrize("shape", [(3,), (10, 10)])
def test_planted_error_fails_with_its_output_and_input(alter: Callable[[Tensor], Tensor], shape: tuple[int]) -> None:
    wrong = make_square(alter)
    with (
        use_directions("coordinates"),
        pytest.raises(
            GradientMismatchError, match=r"^Jacobian mismatch for output 1 with respect to input 1: "
        ) as caught,
    ):
        gradcheck(lambda x, y: (x * y, wrong(y)), (draw(*shape), draw(*shape, seed=1)))
    assert isinstance(caught.value, GradcheckError)
    assert caught.value.report.verdicts["output1/input1"].outcome == "fail"
    assert caught.value.report.verdicts["output0/input1"].outcome == "pass"


@pytest.mark.parametrize("alter", [double_one, flip_sign, scale_all])
def test_random_directions_find_errors_of_a_large_input(alter: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(GradientMismatchError, match="for output 0 with respect to input 0: "):
        gradcheck(make_square(alter), draw(40, 40))


def test_wrong_element_of_a_random_check_is_named() -> None:
    with pytest.raises(GradientMismatchError, match=r"input 0: one element, doubled: output0/input0\[0\]\[1\]"):
        gradcheck(make_square(double_one), draw(5, 5))


def test_large_input_says_how_to_name_its_elements() -> None:
    with pytest.raises(GradientMismatchError, match=r'gradcheckd\.torch\.use_directions\("coordinates"\)'):
        gradcheck(make_square(double_one), draw(20, 20))


def test_right_gradient_of_the_planted_function_passes() -> None:
    assert gradcheck(make_square(keep), draw(10, 10), check_forward_ad=True)


@pytest.mark.parametrize("func", [lambda x: 2 * x.detach(), lambda x: (2 * x.detach(), x > 0)])
def test_output_without_history_must_not_change(func: Callable[..., Any]) -> None:
    with pytest.raises(GradientMismatchError, match="Numerical gradient for function expected to be zero"):
        gradcheck(func, draw(3))


def test_constant_output_passes() -> None:
    assert gradcheck(lambda x: torch.ones_like(x), draw(3), check_forward_ad=True)
    assert gradcheck(lambda x: x > 100, draw(3))


def test_function_that_captures_its_input_is_moved() -> None:
    x = draw(3)
    assert gradcheck(lambda *_: x.sin(), (x,))
    wrong = make_square(flip_sign)
    with pytest.raises(GradientMismatchError):
        gradcheck(lambda *_: wrong(x), (x,))


def test_same_input_twice_passes() -> None:
    x = draw(3)
    assert gradcheck(torch.mul, (x, x))


def test_function_that_differentiates_itself_passes() -> None:
    def differentiate(x: Tensor) -> Tensor:
        return torch.autograd.grad(x.sin().sum(), x, create_graph=True)[0]

    assert gradcheck(differentiate, draw(3))


def test_function_records_nothing_at_moved_points() -> None:
    recorded: list[bool] = []

    def func(x: Tensor) -> Tensor:
        recorded.append(torch.is_grad_enabled())
        return x.sin()

    assert gradcheck(func, draw(3))
    assert recorded.count(True) < 5 < recorded.count(False)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "The function returned None as output 0. Have it return a tensor"),
        ({"y": draw(3)}, "returned dict as output 0"),
        ((draw(3), 3), "returned int as output 1"),
        ((draw(3), (draw(3),)), "returned tuple as output 1"),
    ],
)
def test_a_result_that_is_no_tensor_is_told(result: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        gradcheck(lambda _: result, draw(3))


def test_error_of_the_function_is_raised() -> None:
    def func(_: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        gradcheck(func, draw(3))


def test_other_shapes_at_the_base_are_an_error_of_this_package() -> None:
    """With an exception of no kind of this package, a suite could not tell a check that did not run."""
    calls = 0

    def grow(x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return x.sin() if calls == 1 else torch.cat([x, x])

    with pytest.raises(GradcheckdError, match=r"outputs have shapes \[\[6\]\] here, and \[\[3\]\] at the base"):
        gradcheck(grow, (draw(3),))
