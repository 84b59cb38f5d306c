"""Numbers that a model computes many times over round alike: the service does not accuse itself for it."""

import base64
import json
from typing import Any

import numpy as np
import orjson
import pytest

from service.checks.graph.check import check

COUNT = 40_000
Node = dict[str, Any]


def encode(array: np.ndarray) -> dict[str, Any]:
    kind = "FP64" if array.dtype == np.float64 else "INT64"
    return {"datatype": kind, "shape": list(array.shape), "b64": base64.b64encode(array.tobytes()).decode()}


def check_nodes(nodes: list[Node], x: np.ndarray, tensors: dict[str, np.ndarray] | None = None, **fields: Any) -> Any:
    request: dict[str, Any] = {
        "tensors": {name: encode(tensor) for name, tensor in (tensors or {}).items()},
        "weights": {"x": encode(x)},
        "model": {"nodes": [*nodes, {"name": "loss", "op": "sum", "inputs": ["s"]}]},
        "include": [],
    }
    return json.loads(orjson.dumps(check(request | fields), option=orjson.OPT_SERIALIZE_NUMPY))


def make_node(name: str, op: str, *inputs: Any, **attributes: Any) -> Node:
    return {"name": name, "op": op, "inputs": list(inputs)} | attributes


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


SQUARE = make_node("s", "mul", "y", "y")
ROW, COLUMN = {"z": np.zeros((1, COUNT))}, {"z": np.zeros((COUNT, 1))}
ROWS = {"i": np.random.default_rng(3).integers(0, 3, COUNT)}
POOL = make_node("y", "max_pool2d", "x", kernel_size=40, stride=1, padding=20)
MODELS: dict[str, tuple[list[Node], np.ndarray, dict[str, np.ndarray]]] = {
    "spread over a row": ([make_node("y", "add", "x", "z"), SQUARE], draw(0, 4, 1), ROW),
    "spread over a column": ([make_node("y", "add", "x", "z"), SQUARE], draw(1, 1, 3), COLUMN),
    "in a coefficient": (
        [make_node("y", "add", "x", "z"), make_node("s", "mul", "y", 0.1234567)],
        draw(1, 1, 3),
        COLUMN,
    ),
    "saturated": ([make_node("y", "maximum", "x", "z"), make_node("s", "tanh", "y")], 10 * np.abs(draw(2, 3, 1)), ROW),
    "averaged": (
        [make_node("a", "add", "x", "z"), make_node("y", "mean", "a", dim=[0]), SQUARE],
        draw(1, 1, 3),
        COLUMN,
    ),
    "index_select": ([make_node("y", "index_select", "x", "i", dim=0), SQUARE], draw(4, 3, 3), ROWS),
    "embedding": ([make_node("y", "embedding", "i", "x"), SQUARE], draw(5, 3, 3), ROWS),
    "max_pool2d": ([POOL, SQUARE], draw(0, 1, 1, 150, 150), {}),
    "saturated rows": (
        [make_node("y", "embedding", "i", "x"), make_node("t", "tanh", "y"), make_node("s", "mul", "t", 1 / COUNT)],
        np.array([[13.7949, 0.7657, 9.427], [4.039, 12.82, 0.5055], [8.0259, 3.0193, 13.5]]),
        ROWS,
    ),
    "amax": (
        [make_node("a", "amax", "x", dim=[1], keepdim=True), make_node("y", "add", "a", "z"), SQUARE],
        draw(7, 3, 90),
        ROW,
    ),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("projections", [0, 1, 4])
def test_our_own_gradients_agree(model: tuple[Any, ...], projections: int) -> None:
    along = {"finite_difference": {"projections": projections} if projections else {"sample": 50}}
    report = check_nodes(*model, **along)
    assert report["outcome"] in ("pass", "inconclusive"), report["summary"]
    assert "disputes" not in report


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"saturated", "saturated rows"}))
@pytest.mark.parametrize("projections", [0, 4])
def test_a_wrong_gradient_still_fails(name: str, projections: int) -> None:
    nodes, x, tensors = MODELS[name]
    right = check_nodes(nodes, x, tensors, include=["gradients"], finite_difference={"projections": 1})
    wrong = np.array(right["gradients"]["x"]["analytic"], np.float64) * (1 + 1e-6)
    along = {"projections": projections} if projections else {"sample": 50}
    report = check_nodes(nodes, x, tensors, candidate={"x": encode(wrong)}, finite_difference=along)
    assert report["outcome"] == "fail"
    assert "disputes" not in report
