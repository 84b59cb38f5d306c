"""`POST /v1/plan`, `POST /v1/judge` over HTTP."""

import json

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from service.app import create_app
from tests.service.checks.blackbox.plan_requests import EXAMPLE_POINT, compute_gradient, compute_loss, make_plan_request
from tests.tensor_bodies import make_body, make_entry, read_body

CLIENT = create_app().test_client()
BINARY = "application/vnd.safetensors"
JSON = {"Content-Type": "application/json"}
"""Of requests whose order matters: Flask's client sorts what it is given as `json`."""


def test_a_loss_at_home_is_judged_in_json():
    answer = CLIENT.post("/v1/plan", json=make_plan_request())
    assert answer.status_code == 200
    assert CLIENT.post("/v1/plan", json=make_plan_request()).data == answer.data
    request = {"plan": answer.json["plan"], "losses": [compute_loss(each) for each in answer.json["points"]]}
    report = CLIENT.post("/v1/judge", json=request | {"candidate": compute_gradient()})
    assert (report.status_code, report.json["outcome"]) == (200, "pass")


def test_and_in_safetensors():
    entries = {
        "point/w1": make_entry(np.array(EXAMPLE_POINT["w1"])),
        "point/b": make_entry(np.array([0.5, -0.25], np.float32)),
    }
    raw = make_body(entries, {"request": json.dumps({"seed": 3})})
    answer = CLIENT.post("/v1/plan", data=raw, headers={"Content-Type": BINARY, "Accept": BINARY})
    assert answer.status_code == 200
    tensors, metadata = read_body(answer.data)
    rest = json.loads(metadata["report"])
    assert tensors["points/b"][:2] == ("F32", [rest["evaluations"], 2])
    w, b = np.frombuffer(tensors["points/w1"][2]).reshape(-1, 2, 2), np.frombuffer(tensors["points/b"][2], "<f4")
    losses = [
        compute_loss({"w1": one, "b": other}) for one, other in zip(w, b.reshape(-1, 2).astype(float), strict=True)
    ]
    entries = {f"candidate/{name}": make_entry(np.array(each)) for name, each in compute_gradient().items()}
    raw = make_body(
        entries, {"request": json.dumps({"plan": rest["plan"], "losses": losses, "candidate_dtype": "FP64"})}
    )
    report = CLIENT.post("/v1/judge", data=raw, headers={"Content-Type": BINARY})
    assert (report.status_code, report.json["outcome"]) == (200, "pass")
    assert rest["plan"] == CLIENT.post("/v1/plan", data=json.dumps(make_plan_request()), headers=JSON).json["plan"]


def test_the_order_of_the_request_is_kept_in_every_form():
    entries = {"point/z": make_entry(np.array([0.5], np.float32)), "point/a": make_entry(np.array([1.5, 2.5]))}
    raw = make_body(entries, {"request": "{}"})
    packed = CLIENT.post("/v1/plan", data=raw, headers={"Content-Type": BINARY, "Accept": BINARY}).data
    length = int.from_bytes(packed[:8], "little")
    assert list(json.loads(packed[8 : 8 + length])) == ["__metadata__", "points/z", "points/a"]
    point = {"z": {"datatype": "FP32", "shape": [1], "data": [0.5]}, "a": [1.5, 2.5]}
    asked = json.loads(CLIENT.post("/v1/plan", data=json.dumps({"point": point}), headers=JSON).data)
    assert asked["order"] == list(asked["points"][0]) == ["z", "a"]
    losses = [each["z"][0] * each["a"][0] + each["a"][1] ** 2 for each in asked["points"]]
    request = {"plan": asked["plan"], "losses": losses, "candidate": {"a": [0.5, 5.0], "z": [1.5]}}
    # As a client sends it that keeps its objects sorted.
    report = CLIENT.post("/v1/judge", data=json.dumps(request, sort_keys=True), headers=JSON)
    assert json.loads(report.data)["outcome"] == "pass"
    assert list(json.loads(report.data)["verdicts"]) == ["z", "a"]


def test_cotangents_and_tangents_come_in_safetensors():
    entries = {"point/w": make_entry(np.array([0.5, 1.5])), "cotangents/y": make_entry(np.float32([2.0, -1.0, 0.5]))}
    raw = make_body(entries, {"request": json.dumps({"directions": {"kind": "random", "count": 3}})})
    answer = CLIENT.post("/v1/plan", data=raw, headers={"Content-Type": BINARY, "Accept": BINARY})
    assert answer.status_code == 200
    tensors, metadata = read_body(answer.data)
    assert list(tensors) == ["points/w", "cotangents/y", "tangents/w"]
    assert tensors["cotangents/y"][:2] == ("F64", [3])
    assert np.frombuffer(tensors["cotangents/y"][2]).tolist() == [2.0, -1.0, 0.5]
    assert tensors["tangents/w"][:2] == ("F64", [3, 2])
    report = json.loads(metadata["report"])
    assert set(report) == {"plan", "evaluations", "order"}
    request = {"point": {"w": [0.5, 1.5]}, "cotangents": {"y": [2.0, -1.0, 0.5]}, "directions": {"count": 3}}
    assert CLIENT.post("/v1/plan", json=request).json["plan"] == report["plan"]


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/judge"])
def test_the_examples_can_be_posted_and_what_comes_is_as_described(path):
    document = CLIENT.get("/openapi.json").json
    operation = document["paths"][path]["post"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator(schema | {"components": document["components"]})
    content = operation["requestBody"]["content"]["application/json"]
    of_body = Draft202012Validator(content["schema"] | {"components": document["components"]})
    for example in content["examples"].values():
        assert of_body.is_valid(example["value"])
        answer = CLIENT.post(path, json=example["value"])
        assert answer.status_code == 200
        assert not list(validator.iter_errors(answer.json))
        assert answer.json.get("outcome", "pass") == "pass"


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/judge"])
@pytest.mark.parametrize("wrong", ["[]", "{}", "1", "null", '"x"'])
def test_malformed_request_is_refused(path, wrong):
    answer = CLIENT.post(path, data=wrong, content_type="application/json")
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
