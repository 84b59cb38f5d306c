"""Whole numbers of any length as attributes: each is refused as part of the request, or taken."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY

LONG = (2**63, -(2**63) - 1, 10**30, 2**62, -(2**62), [2**62, 1], [10**30])


def list_whole_numbers(op: Any) -> list[str]:
    """Attributes that take a whole number, by their annotation or the value in the first example."""
    words = ("int", "Positive", "NotNegative")
    return [
        field.name
        for field in dataclasses.fields(op)
        if any(word in str(field.type) for word in words) or type(op.examples[0].attributes.get(field.name)) is int
    ]


def make_request(op: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    example = op.examples[0]
    tensors: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    for number, shape in enumerate(example.input_shapes):
        slot = op.slots[min(number, len(op.slots) - 1)]
        if shape is None:
            continue
        if slot.kinds == ("index",) or slot.name in example.index_limits:
            tensors[f"t{number}"] = {"datatype": "INT64", "shape": list(shape), "data": [0] * int(np.prod(shape))}
        elif slot.kinds == ("bool",) or slot.name in example.bool_slots:
            tensors[f"t{number}"] = {"datatype": "BOOL", "shape": list(shape), "data": [True] * int(np.prod(shape))}
        else:
            weights[f"t{number}"] = np.full(shape, 0.75).tolist()
    node = {"name": "h", "op": op.name, "inputs": [*tensors, *weights], **example.attributes, **attributes}
    node["inputs"].sort()
    return {"tensors": tensors, "weights": weights, "model": [node, {"name": "loss", "op": "sum", "inputs": ["h"]}]}


def run_check(request: dict[str, Any]) -> Any:
    """Return the report; None for a request that is refused."""
    try:
        return check(request)
    except InvalidRequestError:
        return None


@pytest.mark.parametrize("name", [name for name, op in OP_REGISTRY.items() if op.examples and list_whole_numbers(op)])
def test_long_whole_number_is_refused_or_taken(name: str) -> None:
    op = OP_REGISTRY[name]
    for attribute in list_whole_numbers(op):
        for number in LONG:
            report = run_check(make_request(op, {attribute: number}))
            # Attributes of floats take it as a float.
            assert report is None or report["outcome"] in ("pass", "inconclusive"), (attribute, number)


def test_number_beyond_64_bits_is_refused_at_its_place() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(make_request(OP_REGISTRY["tril"], {"diagonal": 10**23}))
    (error,) = caught.value.errors
    assert error["pointer"] == "/model/0/diagonal"
    assert "64 bits" in error["detail"]
