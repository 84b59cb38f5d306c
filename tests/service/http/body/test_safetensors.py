"""Requests and reports in the safetensors format over HTTP: the same check, and never a 500."""

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from tests.schemas.test_safetensors_body import NOT_IN_IT, VALID, draw_mutated_body
from tests.tensor_bodies import encode_request, make_bfloat16_entry, make_body, make_entry, read_body

CLIENT = create_app().test_client()
SAFETENSORS = "application/vnd.safetensors"


def post_body(raw, path="/v1/check", accept="application/json"):
    return CLIENT.post(path, data=raw, content_type=SAFETENSORS, headers={"Accept": accept})


def drop_times(report):
    return report | {"cost": report["cost"]["loss_evaluations"]}


def collect_errors(response):
    assert (response.status_code, response.mimetype) == (422, "application/problem+json"), response.text
    return {error["pointer"]: error["detail"] for error in response.json["errors"]}


def replace_entry(example, name, new, **fields):
    """The reference example with one of its tensors replaced or added."""
    entries, _ = read_body(encode_request(example))
    return make_body(entries | {name: new}, {"request": json.dumps(fields)})


def test_binary_check_equals_the_json_check(example):
    request = example | {"candidate": {"w2": [0, 0, 0, 0]}, "include": ["gradients", "intermediates"], "seed": 3}
    assert drop_times(post_body(encode_request(request)).json) == drop_times(
        CLIENT.post("/v1/check", json=request).json
    )
    other = post_body(encode_request(request | {"candidate": {"w2": [0, 0, 0, 1]}})).json
    assert drop_times(other) != drop_times(post_body(encode_request(request)).json), (
        "the comparison must be able to fail"
    )


def test_binary_curve_equals_the_json_curve(example):
    request = example | {"element": {"name": "w1", "index": [0, 1]}}
    response = post_body(encode_request(request), "/v1/curve")
    assert (response.status_code, response.json) == (200, CLIENT.post("/v1/curve", json=request).json)


def test_the_answer_holds_the_same_numbers(example):
    request = example | {"candidate": {"w2": [0, 0, 0, 0]}, "include": ["gradients", "intermediates"]}
    response = post_body(encode_request(request), accept=SAFETENSORS)
    assert (response.status_code, response.headers["Content-Type"]) == (200, SAFETENSORS)
    entries, metadata = read_body(response.data)
    assert set(metadata) == {"report"}
    report = CLIENT.post("/v1/check", json=request).json
    tensors = {
        f"{part}/{name}/{route}": values
        for part in ("gradients", "intermediates")
        for name, routes in report.pop(part).items()
        for route, values in routes.items()
    }
    assert drop_times(json.loads(metadata["report"])) == drop_times(report)
    assert set(entries) == set(tensors)
    assert {"gradients/w2/candidate", "gradients/w1/error_bound", "intermediates/L1/value"} < set(entries)
    for name, (dtype, shape, raw) in entries.items():
        assert (dtype, np.frombuffer(raw).reshape(shape).tolist()) == ("F64", tensors[name])


@pytest.mark.parametrize("form", ["text/plain", "text/markdown"])
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_requested_text_report_is_in_the_metadata(example, form, dtype):
    request = example | {"dtype": dtype, "include": ["gradients", "intermediates"]}
    _, metadata = read_body(
        CLIENT.post("/v1/check", json=request, headers={"Accept": f'{SAFETENSORS}; report="{form}"'}).data
    )
    assert set(metadata) == {"report", "text"}
    alone = CLIENT.post("/v1/check", json=request, headers={"Accept": form}).text

    def drop_timing_lines(text):
        # The times stand last, on lines that are broken where they end.
        lines, times, _ = text.partition("loss evaluations in")
        assert times
        return lines.splitlines()

    assert len(drop_timing_lines(alone)) > 20, "with its tensors"
    assert drop_timing_lines(metadata["text"]) == drop_timing_lines(alone)


def test_json_request_may_be_answered_in_safetensors(example):
    for encoding in ("nested", "b64"):
        body = example | {"encoding": encoding}
        entries, _ = read_body(CLIENT.post("/v1/check", json=body, headers={"Accept": SAFETENSORS}).data)
        assert entries["gradients/w1/analytic"][:2] == ("F64", [2, 2])
    assert (
        read_body(CLIENT.post("/v1/check", json=example | {"include": []}, headers={"Accept": SAFETENSORS}).data)[0]
        == {}
    )


@pytest.mark.parametrize(("dtype", "name"), [("bfloat16", "BF16"), ("float16", "F16"), ("float32", "F32")])
def test_narrow_datatypes_are_kept_both_ways(example, dtype, name):
    example["weights"]["w2"] = [0.5, -0.25, 0.125, 2.0]
    entries, _ = read_body(encode_request(example))
    (gradients, _) = read_body(
        post_body(make_body(entries, {"request": json.dumps({"dtype": dtype})}), accept=SAFETENSORS).data
    )
    assert gradients["gradients/w2/analytic"][0] == name
    assert gradients["gradients/w2/finite_difference"][0] == "F64"
    as_candidate = make_body(
        entries | {"candidate/w2": gradients["gradients/w2/autograd"]}, {"request": json.dumps({"dtype": dtype})}
    )
    answer = post_body(as_candidate, accept=SAFETENSORS)
    assert read_body(answer.data)[0]["gradients/w2/candidate"] == gradients["gradients/w2/autograd"]
    assert json.loads(read_body(answer.data)[1]["report"])["outcome"] != "fail"


def test_names_may_have_slashes(example):
    example["weights"]["block/0/w2"] = example["weights"].pop("w2")
    nodes = CLIENT.post("/v1/check", json=example | {"weights": {"w1": [[1, 2], [3, 4]], "w2": [1, 2, 3, 4]}})
    model = nodes.json["model"]
    model["nodes"][3]["inputs"] = ["L1A", "block/0/w2"]
    entries, _ = read_body(post_body(encode_request(example | {"model": model}), accept=SAFETENSORS).data)
    assert "gradients/block/0/w2/analytic" in entries
    wrong = make_body({"weights/block/0/w2": ("U8", [1], b"x"), "weights/w1": make_entry(np.ones((2, 2)))})
    assert "U8 was given" in collect_errors(post_body(wrong))["/weights/block~10~1w2"]


NAN = np.array([1.0, np.nan, np.inf, 1.0])


def test_nonfinite_numbers_are_allowed_in_candidates_alone(example):
    assert (
        "not a finite number at index [1]"
        in collect_errors(post_body(replace_entry(example, "weights/w2", make_entry(NAN))))["/weights/w2"]
    )
    assert (
        "only a candidate"
        in collect_errors(post_body(replace_entry(example, "tensors/y", make_entry(np.float32(NAN)))))["/tensors/y"]
    )
    answer = post_body(replace_entry(example, "candidate/w2", make_entry(NAN)), accept=SAFETENSORS)
    entries, metadata = read_body(answer.data)
    assert json.loads(metadata["report"])["verdicts"]["w2"]["outcome"] == "fail"
    assert entries["gradients/w2/candidate"][2] == struct.pack("<4d", *NAN)


BAD = {
    "F8_E8M0": ("weights/w2", ("F8_E8M0", [4], bytes(4)), {}, "/weights/w2", "BF16, F8_E4M3, F8_E5M2, I64, I32, BOOL"),
    "I8": ("tensors/y", ("I8", [4], bytes(4)), {}, "/tensors/y", "I8 was given"),
    "U8": ("candidate/w2", ("U8", [4], bytes(4)), {}, "/candidate/w2", "U8 was given"),
    "integers": ("weights/w2", make_entry(np.arange(4)), {}, "/weights/w2", "a weight must be of floats"),
    "booleans": ("candidate/w2", make_entry(np.ones(4, bool)), {}, "/candidate/w2", "a gradient is of floats"),
    "empty": ("weights/w2", ("F64", [0, 2**40], b""), {}, "/weights/w2", "empty, and too long: its shape is [0, 1099"),
    "of many dimensions": ("weights/w2", ("F64", [1] * 33, bytes(8)), {}, "/weights/w2", "at most 32"),
    "no name": ("weights/", make_entry(np.ones(1)), {}, "/weights/", "must not be empty"),
    "a long name": ("weights/" + "w" * 201, make_entry(np.ones(1)), {}, "/weights/" + "w" * 201, "200 characters"),
    "no section": ("w2", make_entry(np.ones(1)), {}, "/w2", "as in weights/w1"),
    "of another shape": ("weights/w2", make_bfloat16_entry([1, 2]), {}, "/weights/w2", "of shape [2]"),
    "tensors twice": ("weights/w2", make_entry(np.ones(4)), {"weights": {"w2": 1}}, "/weights", "not in the metadata"),
    "an unknown field": ("weights/w2", make_entry(np.ones(4)), {"sed": 1}, "/sed", "did you mean 'seed'?"),
    "a name for two": ("weights/x", make_entry(np.ones(4)), {}, "/weights/x", "names are shared"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "new", "fields", "place", "words"), BAD.values(), ids=BAD)
def test_invalid_request_is_refused_at_its_place(example, name, new, fields, place, words):
    errors = collect_errors(post_body(replace_entry(example, name, new, **fields)))
    assert list(errors) == [place]
    assert words in errors[place]


def test_too_many_tensors_are_counted_before_each_is_looked_at():
    raw = make_body({f"weights/{number}": ("U8", [1], b"x") for number in range(1001)})
    assert collect_errors(post_body(raw)) == {"/weights": "1001 are more than the 1000 that are taken"}


def test_excess_elements_are_not_widened():
    raw = make_body({"weights/w": ("BOOL", [2**22], bytes(2**22))})
    assert "4194304 elements or more" in collect_errors(post_body(raw))["/model"]


@pytest.mark.parametrize(("raw", "words"), NOT_IN_IT.values(), ids=NOT_IN_IT)
def test_malformed_safetensors_are_a_400(raw, words):
    response = post_body(raw)
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert response.json["detail"].startswith("The body is not in the safetensors format: ")
    assert words in response.json["detail"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ("", 400, "The metadata entry `request` is empty"),
        ("{", 400, "The metadata entry `request` is not JSON"),
        ('{"tolerance": {"rtol": NaN}}', 400, "JSON has no NaN"),
        ("[" * 10_000, 400, "The metadata entry `request` is nested deeper than the 64 levels"),
        ("[]", 422, "the metadata entry `request` must be a JSON object"),
    ],
)
def test_the_other_fields_are_json(fields, status, words):
    response = post_body(make_body({}, {"request": fields}))
    assert response.status_code == status
    assert words in response.json["detail"]


@settings(
    max_examples=settings.default.max_examples * 3 // 2,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(raw=st.binary(max_size=100) | draw_mutated_body(), path=st.sampled_from(["/v1/check", "/v1/curve", "/v1/bugs"]))
def test_no_bytes_crash_the_parser(raw, path):
    assert post_body(raw, path).status_code in (400, 422)


def test_unchanged_body_of_the_byte_tests_is_well_formed():
    """A valid form, with tensors that the default model does not have."""
    assert post_body(VALID).status_code == 422
