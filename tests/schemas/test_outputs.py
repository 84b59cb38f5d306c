"""Forms of outputs, of values at points and of products."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.outputs import DirectionalProducts, OutputName, OutputShapes, Values, VectorProducts


def test_shapes_are_tuples_of_sizes():
    assert TypeAdapter(OutputShapes).validate_python({"y": [2, 3], "z": []}) == {"y": (2, 3), "z": ()}


@pytest.mark.parametrize("shape", [None, 2, "2", [True], [1.0], [0], [-1], [[1]], [1] * 33])
def test_invalid_shape_is_refused(shape):
    with pytest.raises(ValidationError):
        TypeAdapter(OutputShapes).validate_python({"y": shape})


@pytest.mark.parametrize("name", ["", "a/b", "/", "n" * 201, 3])
def test_invalid_name_of_an_output_is_refused(name):
    for annotation, value in ((OutputShapes, [1]), (Values, [1.0]), (VectorProducts, {"w": 1.0})):
        with pytest.raises(ValidationError):
            TypeAdapter(annotation).validate_python({name: value})


def test_names_of_outputs_are_described():
    schema = TypeAdapter(OutputName).json_schema()
    assert schema == {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[^/]+$"}


def test_products_may_hold_numbers_that_are_not_finite():
    assert TypeAdapter(DirectionalProducts).validate_python({"y": ["NaN", 1]})["y"].array.shape == (2,)
    assert TypeAdapter(VectorProducts).validate_python({"y": {"w": "Infinity"}})["y"]["w"].array == float("inf")


def test_products_of_nothing_are_refused():
    for value in ({}, {"y": {}}):
        with pytest.raises(ValidationError):
            TypeAdapter(VectorProducts).validate_python(value)
