"""The fields of a request that are kept: no other request is taken for a kept one, and no error is lost."""

import copy

import numpy as np
import pytest

from schemas.check import CheckRequest
from schemas.problem_details import InvalidRequestError
from service.checks.graph import model_language, request_cache
from service.checks.graph.check import check

NODES = [
    {"name": "p", "op": "mul", "inputs": ["w", 2]},
    {"name": "s", "op": "softmax", "inputs": ["p"], "dim": 0},
    {"name": "loss", "op": "mse_loss", "inputs": ["s", "y"]},
]
BODY = {"tensors": {"y": [0.5, 0.25]}, "weights": {"w": [1.0, 2.0]}, "model": {"nodes": NODES}}


@pytest.fixture(autouse=True)
def no_request_is_kept(monkeypatch):
    monkeypatch.setattr(request_cache, "_VALID_REQUESTS", request_cache.BoundedCache(2))


def parse(body) -> CheckRequest:
    return model_language.parse_check_request(copy.deepcopy(body))


def test_a_second_request_takes_the_kept_fields_and_its_own_tensors():
    first, second = parse(BODY), parse(BODY | {"weights": {"w": [3.0, 4.0]}})
    assert second.model is first.model
    assert second.weights["w"].array.tolist() == [3.0, 4.0]
    assert first.weights["w"].array.tolist() == [1.0, 2.0]
    assert (second.candidate, second.model_fields_set) == (None, first.model_fields_set)


def test_a_candidate_of_one_request_is_none_of_the_next():
    with_candidate = parse(BODY | {"candidate": {"w": [1.0, "NaN"]}})
    without = parse(BODY)
    again = parse(BODY | {"candidate": {"w": [5.0, 6.0]}})
    assert np.isnan(with_candidate.candidate["w"].array[1])
    assert without.candidate is None
    assert "candidate" not in without.model_fields_set
    assert again.candidate["w"].array.tolist() == [5.0, 6.0]
    assert again.model is with_candidate.model


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"seed": True},
        {"seed": 0.0},
        {"include": []},
        {"encoding": "b64"},
        {"finite_difference": {"projections": 1}},
        {"model": NODES},
        {"model": {"nodes": [NODES[0] | {"inputs": ["w", 2.0]}, *NODES[1:]]}},
        {"model": {"nodes": [NODES[0], NODES[1] | {"dim": False}, NODES[2]]}},
        {"unknown": 0},
    ],
)
def test_other_fields_have_another_key(other):
    assert request_cache.make_fields_key(BODY | other) != request_cache.make_fields_key(BODY | {"seed": 0})


def test_nan_is_no_null():
    keys = [request_cache.make_fields_key(BODY | {"tolerance": value}) for value in (None, float("nan"))]
    assert None not in keys
    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"weights": {"w": [1.0, "x"]}}, "/weights/w"),
        ({"tensors": {"y": [[1.0], []]}}, "/tensors/y"),
        ({"candidate": {"w": None}}, "/candidate/w"),
        ({"tensors": []}, "/tensors"),
    ],
)
def test_an_invalid_tensor_is_told_as_without_kept_fields(fields, pointer):
    def collect_errors():
        with pytest.raises(InvalidRequestError) as error:
            parse(BODY | fields)
        return error.value.errors

    before = collect_errors()
    parse(BODY)
    assert collect_errors() == before
    assert before[0]["pointer"] == pointer


def test_missing_tensors_are_told_beside_kept_fields():
    parse(BODY)
    with pytest.raises(InvalidRequestError) as error:
        parse({"model": BODY["model"], "weights": BODY["weights"]})
    assert [entry["pointer"] for entry in error.value.errors] == ["/tensors"]


def test_texts_long_models_and_what_is_no_json_are_not_kept():
    text = BODY | {"model": "loss = mse_loss(w, y)"}
    assert parse(text).text_nodes is not parse(text).text_nodes
    long_model = BODY | {"model": {"nodes": NODES * 200}}
    for body in (
        long_model,
        BODY | {"seed": np.float64(0)},
        BODY | {"seed": b""},
        BODY | {"model": "x" * 2**17},
        [BODY],
        None,
    ):
        assert request_cache.make_fields_key(body) is None
    nested: list = []
    for _ in range(5000):
        nested = [nested]
    assert request_cache.make_fields_key(BODY | {"include": nested}) is None


def test_nodes_that_a_caller_changes_are_written_anew():
    report = check(BODY | {"encoding": "b64"})
    expected = copy.deepcopy(report["model"])
    report["model"]["nodes"][0]["inputs"].append("z")
    report["model"]["nodes"][1]["name"] = "other"
    assert check(BODY | {"encoding": "b64"})["model"] == expected
