"""Values of a function at all points, and each mistake that a function may make there."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradcheckd import FunctionError, TensorError
from gradcheckd.function_evaluation import FunctionEvaluator, PointValues, describe_exceptions
from gradcheckd.function_forms import read_point

BASE = np.array([1.0, 2.0])
COUNT = 8


def evaluate(function: Any, point: Any = BASE, *, is_loss: bool = False, progress: Any = None) -> PointValues:
    """Values at three points at the base, and at five beside it, of every tensor."""
    form = read_point(point)
    evaluator = FunctionEvaluator(function, form, is_loss=is_loss)
    moves = np.array([0.0, 0, 0, 1, 2, 3, 4, 5])
    points = {
        name: np.stack([tensor.datatype.from_storage(tensor.array) + move for move in moves])
        for name, tensor in form.tensors.items()
    }
    for array in points.values():
        array.flags.writeable = False
    return evaluator.evaluate(points, COUNT, progress)


def test_losses_are_numbers_in_order() -> None:
    steps: list[Any] = []
    values = evaluate(lambda w: w.sum(), is_loss=True, progress=lambda *step: steps.append(step))
    assert values.losses == [3.0, 3.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0]
    assert (values.outputs, values.exceptions) == ({}, ())
    assert steps == [(done, COUNT) for done in range(1, COUNT + 1)]


def test_losses_without_a_value_are_missing() -> None:
    values = evaluate(lambda w: None if w[0] > 5 else float("inf") if w[0] > 4 else w[0], is_loss=True)
    assert values.losses == [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, "Infinity", None]


ARGUMENTS = {
    "an array": (lambda w: w * 2, BASE),
    "a tuple": (lambda w, b: w + b, (BASE, BASE)),
    "a mapping": (lambda at: at["w"] + at["b"], {"w": BASE, "b": BASE}),
    "torch": (lambda w: w * 2, torch.tensor(BASE, requires_grad=True)),
    "a list": (lambda w: 2 * w, [1.0, 2.0]),
}


@pytest.mark.parametrize(("function", "point"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_outputs_are_stacked(function: Any, point: Any) -> None:
    stack = evaluate(function, point).outputs["y"]
    assert stack.datatype.name == "FP64"
    assert stack.array.tolist() == [[2 * (1 + move), 2 * (2 + move)] for move in (0, 0, 0, 1, 2, 3, 4, 5)]


def test_a_function_gets_gradients_of_torch_where_the_point_has_them() -> None:
    def gradient(w: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad((w**3).sum(), w)[0]

    values = evaluate(gradient, torch.tensor(BASE, requires_grad=True))
    assert values.outputs["y"].array[-1].tolist() == [3 * 6.0**2, 3 * 7.0**2]


DTYPES = {"FP32": torch.float32, "FP16": torch.float16, "BF16": torch.bfloat16}


@pytest.mark.parametrize(("name", "dtype"), DTYPES.items())
def test_outputs_keep_their_datatype_and_miss_values(name: str, dtype: torch.dtype) -> None:
    def function(w: torch.Tensor) -> Any:
        return None if w[0] > 5 else (w.to(dtype), None if w[0] > 4 else w.to(dtype))

    outputs = evaluate(function, torch.tensor(BASE)).outputs
    assert {tensor.datatype.name for tensor in outputs.values()} == {name}
    first, second = (tensor.datatype.from_storage(tensor.array)[:, 0].tolist() for tensor in outputs.values())
    assert first[:7] == [1, 1, 1, 2, 3, 4, 5]
    assert second[:6] == first[:6]
    assert np.isnan([first[7], *second[6:]]).all()


def test_outputs_of_several_datatypes_become_float64() -> None:
    outputs = evaluate(lambda w: jnp.asarray(w, jnp.bfloat16) if w[0] > 3 else np.float32(w)).outputs
    assert outputs["y"].datatype.name == "FP64"
    assert outputs["y"].array[:, 0].tolist() == [1, 1, 1, 2, 3, 4, 5, 6]


def test_outputs_in_one_memory_are_kept_apart() -> None:
    buffer = np.zeros(2)
    assert evaluate(lambda w: np.multiply(w, 1, out=buffer)).outputs["y"].array[:, 0].tolist() == [
        *(1, 1, 1, 2, 3, 4, 5, 6)
    ]


def make_limited_function(limit: float) -> Any:
    def function(w: Any) -> Any:
        if w[0] > limit:
            raise ValueError(f"no value at {w[0]:g}")
        return w

    return function


@pytest.mark.parametrize("is_loss", [False, True])
def test_an_exception_away_from_the_base_is_a_missing_value(is_loss: bool) -> None:
    function = make_limited_function(4)
    values = evaluate((lambda w: function(w).sum()) if is_loss else function, is_loss=is_loss)
    assert [(number, str(error)) for number, error in values.exceptions] == [(6, "no value at 5"), (7, "no value at 6")]
    assert all(error.__traceback__ is None for _, error in values.exceptions), "it would keep the point"
    if is_loss:
        assert values.losses[5:] == [9.0, None, None]
    else:
        assert np.isnan(values.outputs["y"].array).any(axis=1).tolist() == [False] * 6 + [True] * 2
    assert describe_exceptions(values.exceptions) == [
        "The function raised an exception at 2 points, which counts as no value; the first, at point 6: ValueError: no "
        "value at 5"
    ]
    assert "at 1 point," in describe_exceptions(values.exceptions[:1])[0]


def test_an_exception_at_the_base_is_raised_with_the_place() -> None:
    with pytest.raises(ValueError, match="no value at 1") as caught:
        evaluate(make_limited_function(0))
    assert caught.value.__notes__ == ["gradcheckd: raised by the function at the base"]
    calls: list[Any] = []

    def raise_at_second_call(w: Any) -> Any:
        calls.append(w)
        return make_limited_function(0 if len(calls) == 2 else 9)(w)

    with pytest.raises(ValueError, match="no value at 1"):
        evaluate(raise_at_second_call)


def write(w: Any) -> Any:
    w *= 2
    return w.sum()


def write_to_further_point(w: Any) -> Any:
    if w[0] > 3:
        w[1] = 0
    return w * 1


MISTAKES = {
    "writes at the base": (
        write,
        BASE,
        r"The function changed its input 'x' in place, at the base\. Have it work on a",
    ),
    "writes in a tensor": (write, torch.tensor(BASE), "changed its input 'x' in place, at the base"),
    "writes in one of two": (lambda w, b: write(b), (BASE, BASE), "changed its input 'input1' in place, at the base"),
    "writes elsewhere": (
        write_to_further_point,
        BASE,
        "changed its input 'x' in place, at point 5 of the 8 of the plan",
    ),
    "None at the base": (lambda w: None, BASE, "The function returned None at the base. Does it lack a return"),
    "another shape": (
        lambda w: w if w[0] < 3 else w[:1],
        BASE,
        r"Output 'y' has shape \[1\] at point 4 of the 8 of the plan, and \[2\] at the base",
    ),
    "another name": (
        lambda w: {"a": w} if w[0] < 3 else {"b": w},
        BASE,
        "At point 4 of the 8 .*: The result of the function has the names 'b'; expected a mapping with 'a'",
    ),
    "one output less": (lambda w: (w, w) if w[0] < 3 else (w,), BASE, "is a tuple of 1; expected a tuple of 2 arrays"),
    "words for a number": (
        lambda w: {"loss": w.sum()} if w[0] < 3 else {"loss": "large"},
        BASE,
        "At point 4 of the 8 of the plan, otherwise than at the base: output 'loss': str was given",
    ),
    "integers elsewhere": (
        lambda w: w if w[0] < 3 else w.astype(int),
        BASE,
        "At point 4 of the 8 of the plan, otherwise than at the base: output 'y': its datatype is INT64",
    ),
}


@pytest.mark.parametrize(("function", "point", "message"), MISTAKES.values(), ids=MISTAKES)
def test_function_error_names_its_point(function: Any, point: Any, message: str) -> None:
    with pytest.raises(FunctionError, match=message):
        evaluate(function, point)


@pytest.mark.parametrize("is_loss", [False, True])
def test_none_at_a_repeat_of_the_base_is_a_mistake(is_loss: bool) -> None:
    values = iter([1.0, None, *[1.0] * 6])
    with pytest.raises(FunctionError, match="returned None at the base, again, and a value before"):
        evaluate(lambda w: next(values), is_loss=is_loss)


@pytest.mark.parametrize(
    ("call", "place"), [(1, "At the base, again, otherwise than before"), (5, "At point 5 of the 8 of the plan")]
)
def test_a_loss_that_becomes_a_word_is_told_with_its_point(call: int, place: str) -> None:
    values = iter(["large" if number == call else 1.0 for number in range(COUNT)])
    with pytest.raises(FunctionError, match=f"{place}.*The function returned 'large'"):
        evaluate(lambda w: next(values), is_loss=True)


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


def test_an_exception_of_any_message_fits_on_a_line() -> None:
    unreadable, endless = (
        describe_exceptions([(3, UnreadableError())]),
        describe_exceptions([(3, ValueError("z" * 999))]),
    )
    assert unreadable[0].endswith("at point 3: UnreadableError: (its message cannot be read)")
    assert endless[0].endswith(f"at point 3: ValueError: {'z' * 200}...")
    assert describe_exceptions([(3, ValueError())])[0].endswith("at point 3: ValueError")


def test_nothing_is_written_to_the_points_of_the_caller() -> None:
    point = BASE.copy()
    with pytest.raises(FunctionError):
        evaluate(write, point)
    assert point.tolist() == BASE.tolist()


def test_arrays_with_a_candidate_are_refused_with_the_remedy() -> None:
    with pytest.raises(
        TensorError, match=r"an array of shape \(2,\); it must return one number.* give vjp, jvp or jac"
    ):
        evaluate(lambda w: w, is_loss=True)
    with pytest.raises(TensorError, match="The function takes a point; int was given"):
        evaluate(3)
