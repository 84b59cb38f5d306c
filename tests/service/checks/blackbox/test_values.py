"""Values of outputs at the points of a plan."""

import copy

import numpy as np
import pytest

from schemas.plan import Plan
from schemas.problem_details import InvalidRequestError
from schemas.raw_tensor import RawTensor
from service.checks.blackbox.looks import Look
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.blackbox.values import count_points, read_values
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.output_requests import evaluate_plan, plan_outputs, to_wire

RESULT = plan_outputs()
LAYOUT = decode_plan(Plan.model_validate(to_wire(dict(RESULT.plan))), Limits(), 1).layout
VALUES = evaluate_plan(RESULT)
WIRE = to_wire(VALUES)
SHAPES: dict[str, tuple[int, ...]] = {"y": (2, 3), "total": ()}
COUNT = RESULT.evaluations


def read(values):
    return read_values(values, LAYOUT, SHAPES, Look("all", np.arange(COUNT)))


def find_errors(values):
    with pytest.raises(InvalidRequestError) as error:
        read(values)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_nested_lists_are_read_as_they_are():
    arrays = read(WIRE)
    assert list(arrays) == ["y", "total"]
    for name, array in arrays.items():
        assert array.dtype == np.float64
        assert (array == VALUES[name]).all()


def test_tensors_with_the_points_first_are_read_in_every_form():
    raw = bytearray(VALUES["y"].astype("<f4").tobytes())
    declared = {"datatype": "FP32", "shape": [COUNT, 2, 3], "data": WIRE["y"]}
    for value in (RawTensor("F32", [COUNT, 2, 3], raw), declared):
        assert (read(WIRE | {"y": value})["y"] == VALUES["y"].astype(np.float32)).all()


def test_tensors_of_single_points_are_read_in_every_form():
    by_point = [{"datatype": "FP32", "shape": [2, 3], "data": value} for value in WIRE["y"]]
    assert (read(WIRE | {"y": by_point})["y"] == VALUES["y"].astype(np.float32)).all()


def test_null_is_a_point_without_a_value():
    values = copy.deepcopy(WIRE)
    values["y"][7] = values["total"][9] = None
    arrays = read(values)
    assert np.isnan(arrays["y"][7]).all()
    assert np.isnan(arrays["total"][9])
    assert np.isfinite(np.delete(arrays["y"], 7, axis=0)).all()


def test_numbers_that_are_not_finite_are_no_error():
    values = copy.deepcopy(WIRE)
    values["y"][7][1][2], values["y"][0][0][0], values["total"][0] = "NaN", "-Infinity", "Infinity"
    arrays = read(values)
    assert np.isnan(arrays["y"][7, 1, 2])
    assert arrays["y"][0, 0, 0] == -np.inf
    assert arrays["total"][0] == np.inf


def test_integers_are_numbers():
    assert read(WIRE | {"total": [2**60] * COUNT})["total"].tolist() == [2.0**60] * COUNT


def replace_point(name, number, value):
    values = copy.deepcopy(WIRE)
    values[name][number] = value
    return values


BOOL, INT = ({"datatype": name, "shape": [2, 3], "data": [1] * 6} for name in ("BOOL", "INT32"))
INT["data"], BOOL["data"] = [1] * 6, [True] * 6
WRONG = {
    "an output missing": ({"y": WIRE["y"]}, "/values/total", "is missing"),
    "an unknown output": (WIRE | {"z": 1.0}, "/values/z", "no output 'z' in the plan; there are: 'y', 'total'"),
    "too few": (WIRE | {"y": WIRE["y"][:-1]}, "/values/y", f"{COUNT - 1} values were given; the plan has {COUNT}"),
    "none": (WIRE | {"y": []}, "/values/y", "0 values"),
    "a number": (WIRE | {"y": 1.0}, "/values/y", "must be a list"),
    "null": (WIRE | {"y": None}, "/values/y", "must be a list"),
    "text": (WIRE | {"y": "NaN"}, "/values/y", "must be a list"),
    "another shape at all points": (WIRE | {"y": [[[1.0] * 2] * 3] * COUNT}, "/values/y/0", "its shape is [3, 2]"),
    "another shape at one point": (replace_point("y", 30, [1.0, 2.0]), "/values/y/30", "[2]; the output has [2, 3]"),
    "a number for a tensor": (replace_point("y", 30, 1.0), "/values/y/30", "[]; the output has [2, 3]"),
    "a tensor for a number": (replace_point("total", 30, [1.0]), "/values/total/30", "[1]; the output has []"),
    "a ragged value": (replace_point("y", 4, [[1.0], [1.0, 2.0]]), "/values/y/4", "ragged"),
    "text among numbers": (replace_point("total", 4, "one"), "/values/total/4", "a string"),
    "booleans": (replace_point("total", 4, True), "/values/total/4", "true and false"),
    "booleans alone": (WIRE | {"total": [False] * COUNT}, "/values/total/0", "true and false"),
    "a mask": (replace_point("y", 4, BOOL), "/values/y/4", "datatype BOOL"),
    "integers": (replace_point("y", 4, INT), "/values/y/4", "datatype INT32"),
    "an integer beyond float64": (replace_point("total", 4, 10**400), "/values/total/4", "too large"),
    "null at the base": (replace_point("y", 2, None), "/values/y/2", "must have a value at the base"),
    "a whole of another shape": (
        WIRE | {"y": {"datatype": "FP64", "shape": [COUNT, 6], "data": np.reshape(WIRE["y"], (COUNT, 6)).tolist()}},
        "/values/y", f"its shape is [{COUNT}, 6]; {COUNT} points of an output of shape [2, 3] make [{COUNT}, 2, 3]",
    ),
    "a whole of integers": (
        WIRE | {"total": RawTensor("I64", [COUNT], bytearray(8 * COUNT))}, "/values/total", "datatype INT64",
    ),
    "a whole of half the bytes": (
        WIRE | {"total": RawTensor("F64", [COUNT], bytearray(4 * COUNT))}, "/values/total", "takes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "place", "words"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_at_their_place(values, place, words):
    assert words in find_errors(values)[place]


def test_the_point_of_a_wrong_value_is_described():
    assert "at point 3: near point 1 of line 1" in find_errors(replace_point("y", 3, 1.0))["/values/y/3"]


def test_very_many_wrong_values_are_listed_in_part():
    assert len(find_errors(WIRE | {"y": [[1.0]] * COUNT, "total": ["x"] * COUNT})) == 200


def test_points_are_counted_whatever_the_form_of_the_values():
    assert count_points(WIRE) == (COUNT, "y")
    assert count_points({"y": {"datatype": "FP64", "shape": [5, 2], "b64": ""}}) == (5, "y")
    assert count_points({"y": RawTensor("F64", [6, 2], b"")}) == (6, "y")
    assert count_points({"y": {"datatype": "FP64", "shape": []}, "total": [1.0, 2.0]}) == (2, "total")
    assert count_points({"y": 3}) is None
