"""`POST /v1/plan`, `POST /v1/judge` over HTTP."""

import hashlib
import json
from functools import partial

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from service.app import create_app
from tests.service.checks.blackbox.output_requests import (
    compute_jacobian,
    compute_jvp,
    compute_vjp,
    evaluate_plan,
    make_output_request,
    plan_outputs,
)
from tests.service.checks.blackbox.plan_requests import (
    EXAMPLE_POINT,
    compute_gradient,
    compute_loss,
    make_judge_request,
    make_plan_request,
)
from tests.tensor_bodies import make_body, make_entry, read_body

CLIENT = create_app().test_client()
BINARY = "application/vnd.safetensors"
JSON = {"Content-Type": "application/json"}
"""Of requests whose order matters: Flask's client sorts what it is given as `json`."""


def test_a_loss_at_home_is_judged_in_json():
    answer = CLIENT.post("/v1/plan", json=make_plan_request())
    assert answer.status_code == 200
    assert CLIENT.post("/v1/plan", json=make_plan_request()).data == answer.data
    request = {"plan": answer.json["plan"], "losses": [compute_loss(point) for point in answer.json["points"]]}
    report = CLIENT.post("/v1/judge", json=request | {"candidate": compute_gradient()})
    assert (report.status_code, report.json["outcome"]) == (200, "pass")


def test_own_points_are_judged_without_a_plan_in_both_formats():
    """The order of the point counts."""
    request = make_plan_request(evaluations="few")
    answer = CLIENT.post("/v1/plan", data=json.dumps(request), headers=JSON)
    points = [{name: point[name] for name in request["point"]} for point in answer.json["points"]]
    numbers = [np.asarray(tensor, "<f8").tobytes() for point in points for tensor in point.values()]
    fields = {
        "plan_request": request,
        "digest": hashlib.sha256(b"".join(numbers)).hexdigest(),
        "losses": list(map(compute_loss, points)),
    }
    candidate = compute_gradient()
    report = CLIENT.post("/v1/judge", data=json.dumps(fields | {"candidate": candidate}), headers=JSON)
    plan = {"plan": answer.json["plan"], "losses": fields["losses"], "candidate": candidate}
    assert report.data == CLIENT.post("/v1/judge", json=plan).data
    entries = {f"candidate/{name}": make_entry(np.array(gradient)) for name, gradient in candidate.items()}
    raw = make_body(entries, {"request": json.dumps(fields | {"candidate_dtype": "FP64"})})
    same = CLIENT.post("/v1/judge", data=raw, headers={"Content-Type": BINARY})
    assert (report.status_code, same.status_code) == (200, 200)
    assert same.json["outcome"] == report.json["outcome"]
    wrong = CLIENT.post(
        "/v1/judge", data=json.dumps(fields | {"candidate": candidate, "digest": 64 * "0"}), headers=JSON
    )
    assert [error["pointer"] for error in wrong.json["errors"]] == ["/digest"]


def test_answers_may_come_in_safetensors():
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
    entries = {f"candidate/{name}": make_entry(np.array(gradient)) for name, gradient in compute_gradient().items()}
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
    losses = [row["z"][0] * row["a"][0] + row["a"][1] ** 2 for row in asked["points"]]
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


def post_outputs(products, **fields):
    """Post a judgement in safetensors, with these tensors and fields."""
    result = plan_outputs("coordinates")
    values = {f"values/{name}": make_entry(np.array(value)) for name, value in evaluate_plan(result).items()}
    entries = values | {name: make_entry(np.array(array)) for name, array in products(result).items()}
    raw = make_body(entries, {"request": json.dumps({"plan": dict(result.plan)} | fields)})
    return partial(CLIENT.post, "/v1/judge", data=raw, content_type=BINARY)


def name_products(field, by_output):
    """The tensors of products by tensor under their names in safetensors."""
    return {
        f"{field}/{output}/{name}": array
        for output, by_tensor in by_output.items()
        for name, array in by_tensor.items()
    }


def test_products_of_outputs_are_judged_in_json_and_in_safetensors():
    both = make_output_request("coordinates", "vjp", "jvp")
    in_json = CLIENT.post("/v1/judge", json=both)
    assert (in_json.status_code, in_json.json["outcome"]) == (200, "pass")
    in_binary = post_outputs(
        lambda result: (
            name_products("vjp", compute_vjp(result))
            | {f"jvp/{output}": array for output, array in compute_jvp(result).items()}
        )
    )()
    assert in_binary.json == in_json.json
    jacobian = post_outputs(lambda _: name_products("jacobian", compute_jacobian()))()
    assert jacobian.json == CLIENT.post("/v1/judge", json=make_output_request("coordinates", "jacobian")).json
    negative = {"y": {name: -block for name, block in compute_jacobian()["y"].items()}}
    wrong = post_outputs(lambda _: name_products("jacobian", negative))()
    assert (wrong.status_code, wrong.json["outcome"]) == (200, "fail")


def test_derivatives_come_in_json_in_safetensors_and_as_text():
    request = make_output_request("coordinates") | {"include": ["derivatives"]}
    in_json = CLIENT.post("/v1/judge", json=request)
    assert in_json.status_code == 200
    post = post_outputs(lambda _: {}, include=["derivatives"])
    for accepted, text in ((BINARY, None), (f'{BINARY}; report="text/plain"', "Numerical derivatives")):
        answer = post(headers={"Accept": accepted})
        assert answer.mimetype == BINARY
        tensors, metadata = read_body(answer.data)
        assert tensors["derivatives/y/w/value"][:2] == ("F64", [2, 3, 2, 2])
        assert len(tensors) == 8
        for name, (_, shape, raw) in tensors.items():
            _, output, tensor, part = name.split("/")
            expected = in_json.json["derivatives"][f"{output}/{tensor}"][part]
            assert np.frombuffer(raw).reshape(shape).tolist() == expected
        assert json.loads(metadata["report"]) == {
            name: value for name, value in in_json.json.items() if name != "derivatives"
        }
        assert (text or "") in metadata.get("text", "")
    as_text = CLIENT.post("/v1/judge", json=request, headers={"Accept": "text/plain"}).text
    assert "total/b  [3]" in as_text


def test_judgement_without_tensors_may_come_in_safetensors():
    answer = CLIENT.post("/v1/judge", json=make_judge_request(), headers={"Accept": BINARY})
    tensors, metadata = read_body(answer.data)
    assert not tensors
    assert json.loads(metadata["report"]) == CLIENT.post("/v1/judge", json=make_judge_request()).json


def test_a_derivative_that_is_unknown_is_spelled():
    request = make_output_request("coordinates", directions={"kind": "coordinates", "count": 1})
    answer = CLIENT.post("/v1/judge", json=request | {"include": ["derivatives"]})
    derivative = answer.json["derivatives"]["total/b"]
    assert derivative["value"].count("NaN") == derivative["error_bound"].count("Infinity") == 2


@pytest.mark.parametrize("path", ["/v1/plan", "/v1/judge"])
def test_documented_examples_are_answered_as_described(path):
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
