"""A file is parsed within limits."""

import pytest
from onnx import helper

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.importing.import_errors import ModelFileError
from service.checks.importing.model_file import (
    MAX_OPSET,
    MIN_OPSET,
    check_size,
    find_function_opset,
    read_model_file,
    read_static_shape,
)
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    make_file,
    node,
)

pytestmark = pytest.mark.covers_by_cases


@pytest.mark.parametrize(
    ("opset", "is_taken"), [(MIN_OPSET - 1, False), (MIN_OPSET, True), (MAX_OPSET, True), (MAX_OPSET + 1, False)]
)
def test_the_versions_that_are_taken_have_two_ends(opset, is_taken):
    content = make_file([node("Relu", "x")], {"x": (FLOAT, [2])}, opset=opset)
    if is_taken:
        assert read_model_file(content, Limits()).opset == opset
    else:
        with pytest.raises(InvalidRequestError, match="are taken"):
            read_model_file(content, Limits())


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "is empty"), (b"{}", "no ONNX file"), (b"\x08\x08", "has no graph")]
)
def test_other_bytes_are_no_file(content, words):
    with pytest.raises(InvalidRequestError, match=words):
        read_model_file(content, Limits())


def test_a_function_has_a_version_of_its_own():
    functions = [helper.make_function("own", "F", [], [], [], [helper.make_opsetid("", v)]) for v in (17, 3)]
    assert find_function_opset(functions[0], 21) == 17
    with pytest.raises(ModelFileError, match="has opset 3"):
        find_function_opset(functions[1], 21)


def test_two_functions_of_one_name_are_refused():
    function = helper.make_function("own", "F", ["a"], ["b"], [node("Exp", "a", "b")], [helper.make_opsetid("", 21)])
    with pytest.raises(InvalidRequestError, match="two functions are named 'F'"):
        read_model_file(make_file([node("Exp", "x")], functions=[function, function]), Limits())


@pytest.mark.parametrize(
    ("shape", "words"),
    [(None, "has no shape"), ([2, "n"], "axis 1 \\('n'\\)"), ([2, -1], "axis 1"), ([2**30], "elements")],
)
def test_a_shape_that_is_not_static_is_refused(shape, words):
    with pytest.raises(ModelFileError, match=words):
        read_static_shape(helper.make_tensor_value_info("x", FLOAT, shape), Limits())
    assert read_static_shape(helper.make_tensor_value_info("x", FLOAT, [2, 3]), Limits()) == (2, 3)


def test_a_shape_keeps_the_limits():
    check_size((2, 3), Limits(elements=6), "x")
    for shape, words in (((2, 4), "more than 6 elements"), ((1,) * 40, "40 dimensions"), ((-1,), "negative length")):
        with pytest.raises(ModelFileError, match=words):
            check_size(shape, Limits(elements=6), "x")
