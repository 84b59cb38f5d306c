import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.parse import check_entry_counts
from service.checks.graph.problem import build_problem
from service.numerics.gradients.finite_difference import ADAPTIVE_METHOD


def parse_problem(body):
    return build_problem(model_language.parse_check_request(body))


def collect_errors(work, *arguments):
    with pytest.raises(InvalidRequestError) as error:
        work(*arguments)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_leaves_are_rounded_to_the_dtype_and_widened_again(change_example):
    problem = parse_problem(change_example(dtype="float32"))
    assert {leaf.dtype for leaf in problem.leaves.values()} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in problem.float64_leaves.values()} == {np.dtype(np.float64)}
    assert problem.float64_leaves["w1"][0, 0, 0] == float(np.float32(0.1))
    assert problem.leaves["x"].shape == (1, 3, 3)


def make_embedding_request(**fields):
    nodes = [
        {"name": "e", "op": "embedding", "inputs": ["i", "table"]},
        {"name": "loss", "op": "sum", "inputs": ["e"]},
    ]
    return {"tensors": {"i": [1, 0, 1]}, "weights": {"table": [[1, 2], [3, 4]]}, "model": {"nodes": nodes}} | fields


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_integer_tensor_keeps_its_kind(dtype):
    problem = parse_problem(make_embedding_request(dtype=dtype))
    assert problem.leaves["i"].dtype == problem.float64_leaves["i"].dtype == np.int64
    assert problem.leaves["table"].dtype == (np.float64 if dtype == "float64" else np.float32)


def test_only_floats_have_gradients():
    assert (
        "not of floats"
        in collect_errors(parse_problem, make_embedding_request(with_respect_to=["i"]))["/with_respect_to/0"]
    )
    assert (
        "not of floats"
        in collect_errors(parse_problem, make_embedding_request(candidate={"i": [1, 2, 3]}))["/candidate/i"]
    )


def test_reported_names_are_weights_requested_tensors_and_candidates(change_example):
    assert parse_problem(change_example()).names == ("w1", "w2")
    assert parse_problem(change_example(with_respect_to=["x", "L1", "x"])).names == ("x", "L1")
    assert parse_problem(change_example(candidate={"y": [1, 2, 3, 4]})).names == ("w1", "w2", "y")
    assert parse_problem(change_example(include=["intermediates"])).reported_names[:2] == ("w1", "w2")
    assert "L2A" in parse_problem(change_example(include=["intermediates"])).reported_names


def test_difference_method_follows_the_request(change_example):
    assert parse_problem(change_example()).method is ADAPTIVE_METHOD
    assert parse_problem(change_example(finite_difference={"method": "central", "step": 0.5})).method.given_step == 0.5
    assert parse_problem(change_example(finite_difference={"method": "forward"})).method.given_step is None


INT = {"datatype": "INT64", "shape": [4], "data": [1, 2, 3, 4]}

REFUSED = {
    "a name twice": ({"weights": {"x": 1, "w1": [[1]], "w2": [1]}}, "/weights/x", "names are shared"),
    "weights of integers": ({"weights": {"w1": [[1, 1], [1, 1]], "w2": INT}}, "/weights/w2", "must be of floats"),
    "integers where floats are used": (
        {"tensors": {"x": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "y": INT}},
        "/tensors/y",
        "takes floats as target; 'y' is of integers",
    ),
    "too large for the dtype": (
        {"dtype": "float32", "weights": {"w1": [[1e39, 1], [1, 1]], "w2": [1, 1, 1, 1]}},
        "/weights/w1",
        "too large for dtype float32",
    ),
    "a candidate for nothing": ({"candidate": {"w3": 1}}, "/candidate/w3", "there are: 'x', 'y', 'w1', 'w2', 'C1'"),
    "a candidate for the loss": ({"candidate": {"loss": 1}}, "/candidate/loss", "is 1"),
    "a candidate of integers": ({"candidate": {"w2": INT}}, "/candidate/w2", "a gradient is of floats"),
    "an unknown name": ({"with_respect_to": ["w1", "w9"]}, "/with_respect_to/1", "no tensor, weight or node 'w9'"),
    "the loss": ({"with_respect_to": ["loss"]}, "/with_respect_to/0", "is 1"),
    "nothing": ({"with_respect_to": []}, "/with_respect_to", "nothing to judge"),
    "a step that is found": (
        {"finite_difference": {"method": "adaptive", "step": 0.1}},
        "/finite_difference/step",
        "central or forward",
    ),
}


@pytest.mark.parametrize(("fields", "place", "words"), REFUSED.values(), ids=REFUSED)
def test_invalid_problem_is_refused_at_its_place(change_example, fields, place, words):
    parse_problem(change_example())
    assert words in collect_errors(parse_problem, change_example(**fields))[place]


def test_long_list_of_names_is_shortened(change_example):
    tensors = {f"t{n}": 1 for n in range(30)}
    nodes = [{"name": "n0", "op": "mul", "inputs": ["t0", "t1"]}]
    nodes += [{"name": f"n{n}", "op": "mul", "inputs": [f"n{n - 1}", f"t{n + 1}"]} for n in range(1, 29)]
    body = {"tensors": tensors, "weights": {}, "model": {"nodes": nodes}, "with_respect_to": ["z"]}
    assert collect_errors(parse_problem, body)["/with_respect_to/0"].endswith("'t19', ...")


COUNTS = {
    "names": ({"tensors": {"a": 1, "b": 1, "c": 1}}, "/tensors", "3 are more than the 2"),
    "candidates": ({"candidate": {"a": 1, "b": 1, "c": 1}}, "/candidate", "3 are more than the 2"),
    "asked for": ({"with_respect_to": [1, 2, 3]}, "/with_respect_to", "3 are more than the 2"),
    "nodes": ({"model": {"nodes": [{}] * 3}}, "/model/nodes", "3 are more than the 2"),
    "entries of nodes": ({"model": {"nodes": [{"inputs": [0] * 100}]}}, "", "at most 80 are taken"),
    "entries of anything": ({"zzz": [[0] * 50] * 2}, "", "at most 80 are taken"),
}


@pytest.mark.parametrize(("body", "place", "words"), COUNTS.values(), ids=COUNTS)
def test_too_many_entries_are_refused_without_reading_each(body, place, words):
    limits = Limits(names=2, nodes=2)
    check_entry_counts({"tensors": {"a": 1, "b": [0] * 1000}}, limits)
    check_entry_counts([], limits)
    assert words in collect_errors(check_entry_counts, body, limits)[place]
