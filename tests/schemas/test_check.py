"""The request of a check: its defaults are those of the contract, and nothing is converted on the way in."""

from typing import Any, Literal

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from schemas.check import CheckRequest, NodeBase


class Node(NodeBase):
    op: Literal["tanh"]


Request = CheckRequest[Node]

LEAST = {"tensors": {"x": [1]}, "weights": {}}
TANH = {"name": "t", "op": "tanh", "inputs": ["x"]}


def test_request_has_its_defaults() -> None:
    request = Request.model_validate(LEAST)
    assert request.model_dump(exclude={"tensors"}) == {
        "weights": {},
        "model": "conv_tanh_scale_sigmoid",
        "with_respect_to": None,
        "candidate": None,
        "candidate_dtype": None,
        "repeats": None,
        "dtype": "float64",
        "finite_difference": {
            "method": "adaptive",
            "step": None,
            "sample": None,
            "projections": None,
            "joint": True,
        },
        "tolerance": None,
        "include": ["gradients"],
        "encoding": "nested",
        "seed": 0,
    }


ACCEPTED: list[tuple[str, Any]] = [
    ("model", "another"),
    ("model", {"nodes": [TANH]}),
    ("model", {"nodes": [TANH | {"inputs": {"input": "x"}}]}),
    ("model", {"nodes": [TANH | {"inputs": [0.5, 1, "x"]}]}),
    ("model", {"nodes": [TANH | {"inputs": [["x", "y"]]}]}),
    ("model", {"nodes": [TANH | {"inputs": {"tensors": ["x", 2]}}]}),
    ("with_respect_to", ["x", "w"]),
    ("candidate", {"x": ["NaN"]}),
    *[("candidate_dtype", name) for name in ("FP64", "FP32", "TF32", "FP16", "BF16", "float64", "bfloat16")],
    ("dtype", "float32"),
    ("finite_difference", {"method": "central"}),
    ("finite_difference", {"method": "forward", "step": 1}),
    ("tolerance", {"rtol": 0, "atol": 1e-3}),
    ("tolerance", {}),
    ("include", []),
    ("include", ["gradients", "intermediates"]),
    ("encoding", "b64"),
    ("seed", 2**63 - 1),
]


@pytest.mark.parametrize(("field", "value"), ACCEPTED)
def test_valid_fields_are_accepted(field: str, value: Any) -> None:
    request = Request.model_validate(LEAST | {field: value})
    assert field in request.model_fields_set
    assert Draft202012Validator(Request.model_json_schema()).is_valid(LEAST | {field: value})


REFUSED: list[tuple[str, Any]] = [
    *[(field, None) for field in ("tensors", "weights", "model", "dtype", "include", "encoding", "seed")],
    ("tensors", [[1]]),
    ("tensors", {"": 1}),
    ("tensors", {"x": ["NaN"]}),
    ("weights", {"w": "NaN"}),
    ("model", {"nodes": []}),
    ("model", {"nodes": [TANH], "loss": "t"}),
    ("model", {"nodes": [TANH | {"name": ""}]}),
    *[
        ("model", {"nodes": [TANH | {"inputs": inputs}]})
        for inputs in ("x", None, 1, [["x", None]], [True], [[["x"]]], {"input": [None]}, [float("inf")], [{}])
    ],
    ("with_respect_to", "w"),
    ("with_respect_to", [""]),
    ("with_respect_to", [1]),
    ("candidate", {"x": ["nan"]}),
    ("candidate_dtype", "INT32"),
    ("candidate_dtype", "tf32"),
    ("dtype", "FP64"),
    ("dtype", "int64"),
    ("finite_difference", "central"),
    ("finite_difference", {"method": "complex"}),
    *[("finite_difference", {"method": "central", "step": step}) for step in (0, -1, float("inf"), "1e-3", True)],
    *[("tolerance", {"rtol": rtol}) for rtol in (-1e-9, float("inf"), float("nan"), "0", False, None)],
    ("tolerance", {"tol": 1}),
    ("include", ["metrics"]),
    ("include", "gradients"),
    ("encoding", "base64"),
    *[("seed", seed) for seed in (-1, 2**63, 1.5, "0", True)],
    ("seeds", 0),
]


@pytest.mark.parametrize(("field", "value"), REFUSED)
def test_invalid_fields_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as error:
        Request.model_validate(LEAST | {field: value})
    assert {entry["loc"][0] for entry in error.value.errors()} == {field}


def test_schema_requires_tensors_and_weights() -> None:
    schema = Request.model_json_schema()
    Draft202012Validator.check_schema(schema)
    assert sorted(schema["required"]) == ["tensors", "weights"]
    for missing in schema["required"]:
        with pytest.raises(ValidationError):
            Request.model_validate({key: value for key, value in LEAST.items() if key != missing})


def test_requests_are_immutable() -> None:
    request = Request.model_validate(LEAST)
    with pytest.raises(ValidationError, match="frozen"):
        request.seed = 1
    np.testing.assert_array_equal(request.tensors["x"].array, [1])
