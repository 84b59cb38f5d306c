"""Points and outputs in every form that a caller holds them in."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

from gradcheckd import TensorError
from gradcheckd.function_forms import (
    read_outputs,
    read_point,
    restore_direction,
    restore_point_tensor,
)

W, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.25])
POINTS = {
    "an array": (W, "array", {"x": (2, 2)}),
    "a number": (2.0, "array", {"x": ()}),
    "a list of numbers": ([1, 2.5], "array", {"x": (2,)}),
    "a tuple of numbers": ((1.0, 2.0, 3.0), "array", {"x": (3,)}),
    "a list of numbers of NumPy": ([np.float64(1), np.float64(2)], "array", {"x": (2,)}),
    "a tuple": ((W, B), "tuple", {"input0": (2, 2), "input1": (2,)}),
    "a list of equal shapes": ([B, B], "tuple", {"input0": (2,), "input1": (2,)}),
    "an array and a number": ((torch.ones(3), 2.0), "tuple", {"input0": (3,), "input1": ()}),
    "a mapping": ({"w": W, "b": 1.0}, "mapping", {"w": (2, 2), "b": ()}),
}


@pytest.mark.parametrize(("point", "kind", "shapes"), POINTS.values(), ids=POINTS)
def test_points_have_names_and_shapes(point: Any, kind: str, shapes: dict[str, Any]) -> None:
    form = read_point(point)
    assert (form.kind, form.shapes) == (kind, shapes)
    assert {tensor.datatype.name for tensor in form.tensors.values()} <= {"FP64", "FP32"}


OUTPUTS = {
    "an array": (W, "array", {"y": (2, 2)}),
    "a number": (2.0, "array", {"y": ()}),
    "a list of numbers": ([1.0, 2.0], "array", {"y": (2,)}),
    "a tuple of numbers": ((1.0, 2), "tuple", {"output0": (), "output1": ()}),
    "a list of arrays": ([W, B], "tuple", {"output0": (2, 2), "output1": (2,)}),
    "a mapping": ({"loss": 1.0, "scores": B}, "mapping", {"loss": (), "scores": (2,)}),
}


@pytest.mark.parametrize(("outputs", "kind", "shapes"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_have_names_and_shapes(outputs: Any, kind: str, shapes: dict[str, Any]) -> None:
    form = read_outputs(outputs)
    assert (form.kind, form.shapes) == (kind, shapes)


REFUSED_POINTS = {
    "none": ((), r"The point has no tensor"),
    "no name": ({}, r"The point has no tensor"),
    "a number as a name": ({1: W}, "The point is a mapping of names to arrays; as a name 1 was given"),
    "integers": (np.arange(3), r"point 'x': its datatype is INT64, and derivatives need floats\. Convert it"),
    "Booleans": ({"m": torch.ones(2, dtype=torch.bool)}, "point 'm': its datatype is BOOL"),
    "labels in a tuple": ((W, torch.arange(2)), "point 'input1': its datatype is INT64"),
    "complex": (W + 1j, r"point 'x': its datatype is complex128.* Give its real part and its imaginary part"),
    "a tuple in a tuple": ((W, (B, B)), "input 1 is a tuple of arrays within a tuple"),
    "a mapping in a tuple": ((W, {"b": B}), "input 1 is a dict of arrays within a tuple"),
    "ragged": ([[1.0], [2.0, 3.0]], "point 'x': its lists do not have one length"),
    "nothing among arrays": ((W, None), "point 'input1' is None"),
    "text": ("w", "point 'x': str was given"),
}


@pytest.mark.parametrize(("point", "message"), REFUSED_POINTS.values(), ids=REFUSED_POINTS)
def test_points_without_floats_are_refused(point: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        read_point(point)


REFUSED_OUTPUTS = {
    "none": ((), "The function returned no output"),
    "integers": ((W, np.arange(2)), r"output 'output1': its datatype is INT64.* Leave it out of the result"),
    "a number as a name": ({0: W}, "The result of the function is a mapping of names to arrays; as a name 0"),
    "nothing": ({"y": W, "z": None}, "output 'z' is None"),
    "complex": (W * 1j, "output 'y': its datatype is complex128"),
}


@pytest.mark.parametrize(("outputs", "message"), REFUSED_OUTPUTS.values(), ids=REFUSED_OUTPUTS)
def test_outputs_without_floats_are_refused(outputs: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        read_outputs(outputs)


def test_an_output_is_a_copy() -> None:
    """A function may return the same memory each time."""
    buffer = np.zeros(2)
    form = read_outputs(buffer)
    buffer[:] = 1
    assert form.tensors["y"].array.tolist() == [0, 0]


FORMS = {
    "array": (W, W, {"x": 1}),
    "tuple of one for an array": (W, (W,), {"x": 1}),
    "tuple": ((W, B), (W, B), {"input0": 1, "input1": 1}),
    "list for a tuple": ((W, B), [W, B], {"input0": 1, "input1": 1}),
    "names for a tuple": ((W, B), {"input1": B, "input0": W}, {"input0": 1, "input1": 1}),
    "mapping in another order": ({"w": W, "b": B}, {"b": B, "w": W}, {"w": 1, "b": 1}),
}


@pytest.mark.parametrize(("point", "value", "names"), FORMS.values(), ids=FORMS)
def test_values_in_the_form_of_a_point_are_named(point: Any, value: Any, names: dict[str, int]) -> None:
    flat = read_point(point).flatten(value, "The gradient")
    assert list(flat) == list(names)
    assert all(item is W or item is B for item in flat.values())


OTHER_FORMS = {
    "an array for a tuple": ((W, B), W, "The gradient is one ndarray; expected a tuple of 2 arrays"),
    "one of a tuple": ((W, B), (W,), "The gradient is a tuple of 1; expected a tuple of 2 arrays"),
    "other names": ({"w": W, "b": B}, {"w": W, "c": B}, "The gradient has the names 'w', 'c'; expected a mapping with"),
    "names for a tuple": ((W, B), {"w": W}, "The gradient has the names 'w'; expected a tuple"),
    "nothing": ({"w": W}, None, "The gradient is None; expected a mapping with 'w'"),
    "no name": ({"w": W}, {}, r"The gradient has the names \(none\)"),
}


@pytest.mark.parametrize(("point", "value", "message"), OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_values_in_another_form_are_refused(point: Any, value: Any, message: str) -> None:
    with pytest.raises(TensorError, match=message):
        read_point(point).flatten(value, "The gradient")


def test_forms_are_assembled() -> None:
    arrays = {"w": W, "b": B}
    assert read_point({"w": W, "b": B}).assemble(arrays) == arrays
    assert read_point((W, B)).assemble({"input0": 0, "input1": 1}) == (0, 1)
    assert read_point(W).assemble({"x": 0}) == 0


NEGATED = torch.complex(torch.zeros(2), -torch.ones(2)).conj().imag
TENSORS = {
    "float64": torch.zeros(2, dtype=torch.float64),
    "bfloat16 with a history": torch.zeros(2, dtype=torch.bfloat16, requires_grad=True),
    "a parameter": torch.nn.Parameter(torch.zeros(2)),
    "negated": NEGATED,
    "without memory": torch._efficientzerotensor(2),
}


@pytest.mark.parametrize("original", TENSORS.values(), ids=TENSORS)
def test_tensors_of_torch_are_restored(original: torch.Tensor) -> None:
    array = np.array([1.0, 0.5])
    array.flags.writeable = False
    tensor = restore_point_tensor(original, array)
    assert (tensor.dtype, tensor.requires_grad, tensor.tolist()) == (
        original.dtype,
        original.requires_grad,
        [1.0, 0.5],
    )
    direction = restore_direction(original, array)
    assert (direction.dtype, direction.requires_grad) == (original.dtype, False)
    copy = read_point({"w": original}).copy()["w"]
    assert copy is not original
    assert (copy.tolist(), copy.requires_grad) == (original.clone().tolist(), original.requires_grad)


def test_arrays_are_restored() -> None:
    array = np.array([1.0, 0.5])
    array.flags.writeable = False
    assert restore_point_tensor([0.0, 0.0], array).flags.writeable
    assert restore_direction(np.zeros(2, np.float32), array).dtype == np.float32
    assert restore_direction(jnp.zeros(2, jnp.bfloat16), array).dtype == jnp.bfloat16
    assert restore_direction([0.0, 0.0], array).dtype == np.float64


def test_points_are_copied() -> None:
    order = np.asfortranarray(W)
    copy = read_point(order).copy()
    assert (copy is order, copy.flags.f_contiguous) == (False, True)
    immutable = jnp.zeros(2)
    assert read_point(immutable).copy() is immutable
    number = read_point([1, 2]).copy()
    assert (number.dtype, number.tolist()) == (np.float64, [1.0, 2.0])
