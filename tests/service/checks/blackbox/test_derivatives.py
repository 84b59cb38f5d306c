"""Numerical derivatives with their bounds, in place of a verdict or beside it."""

import copy
import json

import numpy as np
import pytest

from schemas.json_writer import write_json
from schemas.problem_details import InvalidRequestError
from schemas.tensor import Tensor
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.output_requests import compute_jacobian, make_output_request
from tests.service.checks.blackbox.plan_requests import compute_gradient, make_judge_request

OUTPUTS = make_output_request("coordinates") | {"include": ["derivatives"]}
LOSS = make_judge_request("coordinates") | {"include": ["derivatives"]}
ALONE = {name: value for name, value in LOSS.items() if name != "candidate"}


def check_bounds(derivative, truth, bound):
    value, bounds = np.array(derivative["value"]), np.array(derivative["error_bound"])
    assert value.shape == bounds.shape == np.shape(truth)
    assert (np.abs(value - truth) <= bounds).all()
    assert bounds.max() < bound


def test_the_derivatives_of_outputs_are_within_their_bounds():
    report = judge_losses(OUTPUTS)
    assert (report["outcome"], report["verdicts"]) == ("inconclusive", {})
    assert report["summary"].startswith("inconclusive: no gradient was given, so that none was judged. All 49 ")
    assert not {"taylor", "missed", "dot_tests"} & report.keys()
    assert list(report["derivatives"]) == ["y/w", "y/b", "total/w", "total/b"]
    for output, by_tensor in compute_jacobian().items():
        for name, truth in by_tensor.items():
            check_bounds(report["derivatives"][f"{output}/{name}"], truth, 1e-11)


def test_the_derivatives_of_a_loss_are_within_their_bounds():
    report = judge_losses(ALONE)
    assert (report["outcome"], report["verdicts"]) == ("inconclusive", {})
    assert "All 6 numerical derivatives have error bounds" in report["summary"]
    assert 0 < report["noise"] < 1e-15
    assert report["deterministic"]
    assert list(report["derivatives"]) == ["w1", "b"]
    for name, truth in compute_gradient().items():
        check_bounds(report["derivatives"][name], truth, 1e-4 if name == "b" else 1e-11)


def test_derivatives_stand_beside_verdicts():
    report = judge_losses(LOSS)
    assert report["outcome"] == "pass"
    assert str(report["derivatives"]) == str(judge_losses(ALONE)["derivatives"])
    references = [direction["reference"] for direction in report["verdicts"]["w1"]["directions"]]
    assert np.ravel(report["derivatives"]["w1"]["value"]).tolist() == references
    with_products = judge_losses(make_output_request("coordinates", "jacobian") | {"include": ["derivatives"]})
    assert with_products["outcome"] == "pass"
    assert str(with_products["derivatives"]) == str(judge_losses(OUTPUTS)["derivatives"])


def test_elements_that_were_not_moved_have_no_derivative():
    body = make_output_request("coordinates", directions={"kind": "coordinates", "count": 2})
    report = judge_losses(body | {"include": ["derivatives"]})
    derivative = report["derivatives"]["total/b"]
    is_known = np.isfinite(np.array(derivative["error_bound"], float))
    assert is_known.sum() == 2
    assert np.isnan(np.array(derivative["value"], float)).tolist() == (~is_known).tolist()
    assert "28 of 49 numerical derivatives have error bounds" in report["summary"]
    text = write_json(judge_losses(body | {"include": ["derivatives"]}, reserve_answer_bytes=lambda _: None))
    assert json.loads(text)["derivatives"]["total/b"]["value"].count("NaN") == 1


def test_nothing_is_known_of_a_function_without_a_base():
    body = copy.deepcopy(OUTPUTS)
    for number in range(3):
        body["values"]["y"][number] = [["NaN"] * 3] * 2
        body["values"]["total"][number] = "Infinity"
    report = judge_losses(body)
    assert report["summary"].endswith("No derivative of 49 has an error bound.")


def test_encodings_hold_the_same_numbers():
    nested = judge_losses(OUTPUTS)["derivatives"]["y/w"]["value"]
    encoded = judge_losses(OUTPUTS | {"encoding": "b64"})["derivatives"]["y/w"]["value"]
    binary = judge_losses(OUTPUTS, encoding="binary")["derivatives"]["y/w"]["value"]
    assert encoded["datatype"] == "FP64"
    assert Tensor.decode(encoded).array.tolist() == binary.array.tolist() == np.array(nested).tolist()


def test_the_size_of_the_answer_is_reserved():
    for encoding in ("nested", "b64"):
        sizes: list[int] = []
        report = judge_losses(OUTPUTS | {"encoding": encoding}, reserve_answer_bytes=sizes.append)
        assert len(write_json(report)) < sizes[0]
    sizes.clear()
    judge_losses(make_output_request("random", "vjp"), reserve_answer_bytes=sizes.append)
    assert not sizes


def find_errors(body, limits):
    with pytest.raises(InvalidRequestError) as error:
        judge_losses(body, limits)
    assert error.value.reason == "over-budget"
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_an_answer_with_too_many_derivatives_is_refused():
    errors = find_errors(OUTPUTS, Limits(answer_bytes=11_000))
    assert "the answer may take up to" in errors["/include"]


def test_a_jacobian_with_too_many_numbers_is_refused():
    outputs, point = {"y": [100]}, {"w": [0.5] * 100}
    result = plan_evaluations({"point": point, "outputs": outputs, "directions": {"kind": "coordinates", "count": 1}})
    body = {"plan": dict(result.plan), "values": {"y": np.zeros((result.evaluations, 100)).tolist()}}
    limits = Limits(elements=1000)
    assert judge_losses(body | {"include": ["derivatives"]})["outcome"] == "inconclusive"
    for field, value in (("include", ["derivatives"]), ("jacobian", {"y": {"w": np.zeros((100, 100)).tolist()}})):
        detail = find_errors(body | {field: value}, limits)[f"/{field}"]
        assert detail.startswith("the derivatives of these outputs by all tensors hold 10008 numbers; at most 8000 may")
