import numpy as np
import pytest

from schemas.curve import ElementSpec
from service.checks.graph import model_language
from service.checks.graph.element import choose_element_name, compute_flat_index


def parse_curve_problem(body, name="w1", index=()):
    request = model_language.parse_curve_request(body | {"element": {"name": name, "index": list(index)}})
    return model_language.build_graph(request), request


def collect_errors(name, index, body):
    graph, request = parse_curve_problem(body, name, index)
    errors = []
    assert choose_element_name(request, graph, errors) == (name,)
    return {error["pointer"]: error["detail"] for error in errors}


@pytest.mark.parametrize(
    "index", [[0, 0], [0, 1], [1, 0], [1, 1], [-1, -1], [-2, 1], [0, -2]], ids=lambda index: str(index)
)
def test_the_flat_index_is_numpys(change_example, index):
    graph, _ = parse_curve_problem(change_example())
    place = compute_flat_index(ElementSpec(name="w1", index=index), graph)
    assert np.arange(4).reshape(2, 2)[tuple(index)] == place
    assert collect_errors("w1", index, change_example()) == {}


def test_a_number_has_one_element():
    body = {
        "tensors": {"x": 2.0},
        "weights": {"w": 3.0},
        "model": {"nodes": [{"name": "loss", "op": "mul", "inputs": ["x", "w"]}]},
    }
    graph, _ = parse_curve_problem(body)
    assert compute_flat_index(ElementSpec(name="w", index=[]), graph) == 0
    assert collect_errors("w", [], body) == {}
    assert collect_errors("w", [0], body) == {
        "/element/index": "1 number given as index into 'w', whose shape is []: one for each axis is needed, such as []"
    }


REFUSED = {
    "too few": ("w1", [0], "/element/index", "1 number given as index into 'w1', whose shape is [2, 2]"),
    "too many": ("w2", [0, 0], "/element/index", "one for each axis is needed, such as [0]"),
    "none": ("w2", [], "/element/index", "0 numbers given"),
    "beyond": ("w1", [0, 2], "/element/index/1", "2 is out of range on axis 1 of 'w1', whose shape is [2, 2]: from 0"),
    "before": ("w1", [-3, 0], "/element/index/0", "or counted from the end from -1 to -2"),
    "unknown": ("w9", [0], "/element/name", "no tensor, weight or node 'w9'; there are: 'x', 'y', 'w1'"),
    "the loss": ("loss", [], "/element/name", "this is the loss; its gradient with respect to itself is 1; name"),
}


@pytest.mark.parametrize(("name", "index", "place", "words"), REFUSED.values(), ids=REFUSED)
def test_missing_element_is_refused_at_its_place(change_example, name, index, place, words):
    (error,) = collect_errors(name, index, change_example()).items()
    assert error[0] == place
    assert words in error[1]


def test_each_index_out_of_range_is_reported(change_example):
    assert set(collect_errors("w1", [5, -5], change_example())) == {"/element/index/0", "/element/index/1"}


def test_integer_tensor_has_no_curve():
    nodes = [
        {"name": "e", "op": "embedding", "inputs": ["i", "table"]},
        {"name": "loss", "op": "sum", "inputs": ["e"]},
    ]
    body = {"tensors": {"i": [1, 0]}, "weights": {"table": [[1, 2], [3, 4]]}, "model": {"nodes": nodes}}
    detail = collect_errors("i", [0], body)["/element/name"]
    assert detail == "this tensor is not of floats, and has no gradient; name another: 'table', 'e'"
