"""Numbers that the file gives are computed at the import, within the limits."""

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from service.checks.common.limits import Limits
from service.checks.importing.folding import (
    cast_array,
    check_result_size,
    find_folder,
    find_slices,
    find_split_lengths,
    resolve_shape,
)
from service.checks.importing.import_errors import LimitError, OperatorUseError
from service.checks.importing.values import Known
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    INT64,
    make_call,
    make_file,
    make_operator_file,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_arithmetic_of_shapes_is_computed_at_the_import():
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "batch"),
        node("Unsqueeze", "batch axes", "first"),
        node("Concat", "first minus", "target", axis=0),
        node("Reshape", "x target"),
    ]
    known = {"zero": np.array(0), "axes": np.array([0]), "minus": np.array([-1])}
    imported = run_import(make_file(nodes, {"x": (FLOAT, [2, 3, 5])}, initialisers=known))
    assert imported.fields["model"]["nodes"][0] == {"name": "y", "op": "reshape", "inputs": ["x"], "shape": [2, 15]}


A, B = np.array([[7, -7, 4], [0, 5, -2]]), np.array([2, -3, 5])
FOLDED = {
    **{name: (name, [A, B], {}) for name in ("Add", "Sub", "Mul", "Less", "Equal", "Mod", "Min", "Max")},
    **{name: (name, [A > 0, B > 0], {}) for name in ("And", "Or", "Xor")},
    **{name: (name, [A], {}) for name in ("Neg", "Abs", "Sign", "NonZero", "ReduceProd")},
    "Div": ("Div", [np.abs(A), np.abs(B)], {}),
    "Not": ("Not", [A > 0], {}),
    "fmod": ("Mod", [A, B], {"fmod": 1}),
    "Where": ("Where", [A > 0, A, B], {}),
    "Concat": ("Concat", [A, A], {"axis": 1}),
    "Gather": ("Gather", [A, np.array([1, 0])], {"axis": 0}),
    "GatherElements": ("GatherElements", [A, np.array([[1, 0, 1]])], {"axis": 0}),
    "Range": ("Range", [np.array(7), np.array(-2), np.array(-3)], {}),
    "Reshape": ("Reshape", [A, np.array([3, -1])], {}),
    "Flatten": ("Flatten", [A], {"axis": 0}),
    "Unsqueeze": ("Unsqueeze", [A, np.array([1])], {}),
    "Squeeze": ("Squeeze", [A[:1], np.array([0])], {}),
    "Transpose": ("Transpose", [A], {}),
    "Expand": ("Expand", [B, np.array([2, 3])], {}),
    "Tile": ("Tile", [B, np.array([2])], {}),
    "CumSum": ("CumSum", [A, np.array(1)], {}),
    "OneHot": ("OneHot", [np.array([0, 2, -1]), np.array(3), np.array([4, 5])], {"axis": -1}),
    "ReduceMax": ("ReduceMax", [A, np.array([1])], {"keepdims": 0}),
    "ArgMax": ("ArgMax", [A], {"axis": 1, "keepdims": 0}),
    "Slice": ("Slice", [A, np.array([2]), np.array([-9]), np.array([1]), np.array([-2])], {}),
    "Trilu": ("Trilu", [A, np.array(1)], {"upper": 1}),
    "Clip": ("Clip", [A, np.array(-1), np.array(4)], {}),
}  # fmt: skip


@pytest.mark.parametrize(("operator", "arrays", "attributes"), FOLDED.values(), ids=FOLDED)
def test_constants_have_the_values_of_the_reference(operator, arrays, attributes):
    folder = find_folder(operator)
    assert folder is not None
    (value,) = folder(make_call(operator, *(Known(array, "a") for array in arrays), **attributes), arrays)
    content = make_operator_file(operator, arrays, **attributes)
    (expected,) = ReferenceEvaluator(onnx.ModelProto.FromString(content)).run(None, {})
    np.testing.assert_array_equal(value, expected)
    assert value.dtype.kind == expected.dtype.kind


def test_integers_are_divided_towards_zero():
    folder = find_folder("Div")
    assert folder is not None
    assert folder(make_call("Div"), [np.array([7, -7, 7]), np.array([2, 2, -2])])[0].tolist() == [3, -3, -3]
    with pytest.raises(OperatorUseError, match="divides an integer by zero"):
        folder(make_call("Div"), [np.array(1), np.array(0)])


def test_a_result_is_refused_before_it_is_made():
    check_result_size(make_call("Expand", limits=Limits(elements=6)), [2, 3])
    with pytest.raises(LimitError, match="more than 6 elements"):
        check_result_size(make_call("Expand", limits=Limits(elements=6)), [2, 4])
    for operator, arrays in (
        ("ConstantOfShape", [np.array([2**40])]),
        ("Range", [np.array(0), np.array(2**40), np.array(1)]),
        ("Expand", [np.array([1]), np.array([2**40])]),
        ("Tile", [np.array([1]), np.array([2**40])]),
    ):
        folder = find_folder(operator)
        assert folder is not None
        with pytest.raises(LimitError):
            folder(make_call(operator), arrays)


@pytest.mark.parametrize(
    ("sizes", "allow_zero", "shape"), [([-1, 2], False, [6, 2]), ([0, -1], False, [3, 4]), ([12], True, [12])]
)
def test_a_shape_is_resolved(sizes, allow_zero, shape):
    assert resolve_shape([3, 4], sizes, allow_zero) == shape


@pytest.mark.parametrize(
    ("sizes", "allow_zero"), [([5, -1], False), ([-1, -1], False), ([0, 12], True), ([-3, -4], False)]
)
def test_a_shape_that_does_not_fit_is_refused(sizes, allow_zero):
    with pytest.raises(OperatorUseError, match="does not fit"):
        resolve_shape([3, 4], sizes, allow_zero)


def test_old_versions_have_attributes_in_place_of_inputs():
    assert find_slices(make_call("Slice", opset=9, starts=[1], ends=[3], axes=[-1]), [4, 5]) == [
        slice(None),
        slice(1, 3, 1),
    ]
    assert find_split_lengths(make_call("Split", opset=11, split=[2, 3], output_count=2), 5) == [2, 3]
    assert find_split_lengths(make_call("Split", output_count=3, num_outputs=3), 7) == [3, 3, 1]


def test_numbers_are_cast_to_the_types_of_onnx():
    assert cast_array(np.array([1.0 + 2**-10]), 16).tolist() == [1.0]
    assert cast_array(np.array([1.5, -1.5]), INT64).tolist() == [1, -1]
    with pytest.raises(OperatorUseError, match="of the type STRING"):
        cast_array(np.array([1.0]), 8)
