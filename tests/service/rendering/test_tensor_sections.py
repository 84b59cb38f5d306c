import numpy as np
import pytest

from schemas.tensor import encode_tensor
from service.rendering.document import Paragraph, Table
from service.rendering.tensor_sections import (
    MAX_ELEMENTS,
    build_gradient_sections,
    build_intermediate_sections,
    get_shape,
    to_array,
)
from tests.service.rendering.example_reports import make_report

ARRAYS = [
    np.array(1.5), np.array(np.nan), np.array([1.0, 2.0]), np.array([[1.0, np.inf], [np.nan, -np.inf]]),
    np.zeros((2, 0, 3)), np.arange(6.0).reshape(1, 2, 3), np.array([0.1], np.float32), np.array([0.1], np.float16),
]  # fmt: skip


@pytest.mark.parametrize("values", ARRAYS, ids=str)
@pytest.mark.parametrize("encoding", ["nested", "b64"])
def test_every_encoding_is_read(values, encoding):
    wire = encode_tensor(values, encoding)
    assert get_shape(wire) == values.shape
    assert np.array_equal(to_array(wire), values.astype(np.float64), equal_nan=True)


def test_nested_lists_are_read_as_they_come_from_json():
    assert get_shape([[1, "NaN"], [2, 3]]) == (2, 2)
    assert np.array_equal(to_array([[1, "NaN"]]), [[1, np.nan]], equal_nan=True)
    assert (get_shape([]), get_shape([[], []]), to_array([]).size) == ((0,), (2, 0), 0)


def list_blocks(sections):
    return [block for section in sections for block in section.blocks]


def test_gradients_stand_side_by_side():
    first, second = list_blocks(build_gradient_sections(make_report("fail")))
    assert [column.head for column in first.columns] == [
        "index", "analytic", "autograd", "finite difference", "error bound", "candidate"
    ]  # fmt: skip
    assert first.rows[3][0] == "[1, 1]"
    assert (first.rows[3][1][0], first.rows[3][5]) == ("-", "0.330264536335")
    assert (first.heading.names, second.heading.names) == (("w1",), ("w2",))
    assert len(second.columns) == 5


def test_a_candidate_of_another_shape_has_a_table_of_its_own():
    ours, theirs, _ = list_blocks(build_gradient_sections(make_report("another shape")))
    assert ours.heading.text.startswith("analytic, autograd, finite difference, error bound of shape [2, 2]")
    assert theirs.heading.text == "candidate of shape [3], 3 elements"
    assert [row[1] for row in theirs.rows] == ["1", "2", "3"]


def test_large_tensor_is_reported_as_too_large():
    (block,) = list_blocks(build_gradient_sections(make_report("large")))
    assert isinstance(block, Paragraph)
    assert block.heading.text == "shape [10, 5], 50 elements"


@pytest.mark.parametrize(
    ("count", "kind"), [(0, Table), (1, Table), (MAX_ELEMENTS, Table), (MAX_ELEMENTS + 1, Paragraph)]
)
def test_tensor_at_the_size_limit_is_printed(count, kind):
    report = {"intermediates": {"n": dict.fromkeys(("value", "analytic", "autograd"), np.zeros(count))}}
    (block,) = list_blocks(build_intermediate_sections(report))
    assert isinstance(block, kind)


def test_without_a_difference_by_element_there_is_no_column_of_it():
    assert [column.head for column in list_blocks(build_gradient_sections(make_report("projections")))[1].columns] == [
        "index", "analytic", "autograd"
    ]  # fmt: skip


def test_intermediates_are_there_if_they_are_included():
    assert list(build_intermediate_sections(make_report("pass"))) == []
    assert list(build_gradient_sections(make_report("nothing included"))) == []
    blocks = list_blocks(build_intermediate_sections(make_report("intermediates")))
    assert [block.heading.names[0] for block in blocks] == ["C1", "L1", "L1A", "L2", "L2A"]


def test_tensors_are_limited_to_the_first_names():
    many = {"intermediates": {f"n{number}": {"value": 1.0, "analytic": 1.0, "autograd": 1.0} for number in range(23)}}
    blocks = list_blocks(build_intermediate_sections(many))
    assert len(blocks) == 21
    assert blocks[-1].text == "3 more tensors in the JSON report."
