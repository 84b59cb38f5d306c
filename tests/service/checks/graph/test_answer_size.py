"""What an answer takes, told before: never less than it comes to, whatever is asked for and in whatever form."""

from typing import Any

import pytest

from schemas.json_writer import write_json
from schemas.problem_details import InvalidRequestError
from schemas.safetensors_body import encode_report
from service.checks.common.limits import Limits
from service.checks.graph.answer_size import check_answer_size, estimate_answer_size
from service.checks.graph.check import check
from tests.service.checks.graph.sized_requests import make_problem

EVERYTHING = ["gradients", "allowances", "intermediates"]
WORST = -1.2345678901234567e-105


def make_request(shape: tuple[int, ...], op: str = "tanh", **fields: Any) -> dict[str, Any]:
    values: Any = WORST
    for length in reversed(shape):
        values = [values] * length
    nodes = [{"name": "y", "op": op, "inputs": ["w"]}, {"name": "l", "op": "sum", "inputs": ["y"]}]
    return {"tensors": {}, "weights": {"w": values}, "model": {"nodes": nodes}, "include": EVERYTHING, **fields}


REQUESTS = {
    "a vector": make_request((500,)),
    "lists of one": make_request((500, 1, 1, 1, 1)),
    "base64": make_request((500,), encoding="b64"),
    "float32 in base64": make_request((500,), encoding="b64", dtype="float32"),
    "no numbers": make_request((20, 20), candidate={"w": [["-Infinity"] * 20] * 20}),
    "a candidate of another shape": make_request((4,), candidate={"w": [[WORST] * 300] * 3}),
    "directions": make_request((2,), finite_difference={"projections": 400}),
    "kinks": make_request((900,), "abs", weights={"w": [0.0] * 900}),
    "a sample": make_request((500,), finite_difference={"sample": 3}),
    "little": make_request((1,), include=[]),
    "a long name that JSON escapes": {
        "tensors": {},
        "weights": {"\u0001" * 200: [1.0]},
        "model": {"nodes": [{"name": "l", "op": "sum", "inputs": ["\u0001" * 200]}]},
    },
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_answer_is_no_larger_than_its_estimate(request_: dict[str, Any]) -> None:
    told: list[int] = []
    size = len(write_json(check(request_, reserve_answer_bytes=told.append)))
    assert size <= told[0] < 10 * size + 20_000
    binary = len(encode_report(check(request_, encoding="binary", reserve_answer_bytes=told.append)))
    assert binary <= told[1]


def test_deferred_answer_is_the_report() -> None:
    request = make_request((3, 2), candidate={"w": [["NaN", 1.0], [2.0, "Infinity"], [0.0, 1.0]]})
    late, now = write_json(check(request, reserve_answer_bytes=lambda _: None)), write_json(check(request))
    assert late[: late.index(b'"cost"')] == now[: now.index(b'"cost"')]


def test_an_answer_over_the_limit_is_refused_before_anything_is_computed() -> None:
    problem = make_problem(make_request((500,)))
    size = estimate_answer_size(problem, "nested").written_bytes
    assert check_answer_size(problem, Limits(answer_bytes=size), "nested") == size
    for encoding, advised in (("nested", True), ("binary", False)):
        with pytest.raises(InvalidRequestError) as info:
            check_answer_size(problem, Limits(answer_bytes=100), encoding)
        (error,) = info.value.errors
        assert error["pointer"] == "/include"
        assert ("safetensors" in error["detail"]) == advised
    told: list[int] = []
    with pytest.raises(InvalidRequestError):
        check(
            make_request((500,)), Limits(answer_bytes=100), lambda *_: told.append(1), reserve_answer_bytes=told.append
        )
    assert told == []
