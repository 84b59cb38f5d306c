"""One clock a request: whenever the time is over, whatever is being done, the request is refused soon and says so.

The clock goes by looks, so that nothing here depends on the machine.
"""

import itertools

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations
from service.checks.bugs import simulate_bugs
from service.checks.curve import compute_curve
from service.checks.graph.check import check
from service.numerics.model.presets import PRESETS
from tests.service.checks.common.counting_clock import end_time_after_looks

POINT = {"point": {"w": [0.5, -1.5], "v": [1.0]}, "directions": {"kind": "random", "count": 3}}


def make_request(name, **fields):
    return PRESETS[name].example_request | fields


def make_flipped_request(name):
    """Every gradient of it with its sign flipped, along with the nodes."""
    body = make_request(name, include=["gradients", "intermediates"])
    right = check(body)["gradients"]
    return body | {"candidate": {key: (-gradient["analytic"]).tolist() for key, gradient in right.items()}}


def make_judge_request():
    posed = plan_evaluations(POINT)
    points = posed.points
    losses = (points["w"].array[:, 0] * points["v"].array[:, 0] ** 2 + points["w"].array[:, 1]).tolist()
    return {"plan": dict(posed.plan), "losses": losses, "candidate": {"w": [1, 1], "v": [1]}}


WORK = {
    "a check": (check, lambda: make_request("mlp_classifier")),
    "wrong candidates": (check, lambda: make_flipped_request("conv_tanh_scale_sigmoid")),
    "float32": (check, lambda: make_request("logistic_regression", dtype="float32")),
    "a sample": (check, lambda: make_request("mlp_classifier", finite_difference={"sample": 3})),
    "directions": (check, lambda: make_request("mlp_classifier", finite_difference={"projections": 3})),
    "a curve": (
        compute_curve,
        lambda: make_request("conv_tanh_scale_sigmoid", element={"name": "w1", "index": [0, 1]}),
    ),
    "bugs": (simulate_bugs, lambda: make_request("conv_tanh_scale_sigmoid")),
    "a bug": (simulate_bugs, lambda: make_request("conv_tanh_scale_sigmoid", bug="sign_flipped")),
    "a plan": (plan_evaluations, lambda: POINT),
    "a judgement": (judge_losses, make_judge_request),
}


@pytest.mark.no_cover
@pytest.mark.parametrize(("answer", "body"), WORK.values(), ids=WORK)
def test_whenever_the_time_is_over_the_request_is_refused_soon(answer, body):
    body = body()
    answer(body)
    # Its plan is kept from now on.
    with end_time_after_looks(10**9) as ticking:
        answer(body)
    whole = ticking.look_count
    refused = 0
    for looks in {*range(1, min(12, whole)), *(round(whole * part / 25) for part in range(1, 25))}:
        with end_time_after_looks(looks) as ticking:
            detail = get_refusal(answer, body)
        refused += detail is not None
        assert detail is None or detail.startswith("out of time: ")
        assert detail is None or f"when the limit of {looks} s was reached. " in detail
        # What would fit is looked for in a quarter more, and each refusal is one more look or two.
        assert ticking.look_count <= 1.25 * looks + 5, detail
    assert refused >= (20 if whole > 100 else 1)
    with end_time_after_looks(whole):
        assert get_refusal(answer, body) is None


def get_refusal(answer, body):
    """Why it is refused; None where it is answered."""
    try:
        answer(body)
    except InvalidRequestError as error:
        return error.errors[0]["detail"] if error.reason == "out-of-time" else repr(error)
    return None


@pytest.mark.no_cover
def test_every_stage_looks_at_the_clock():
    body, stages = make_flipped_request("conv_tanh_scale_sigmoid"), set()
    for looks in itertools.count(1):
        try:
            with end_time_after_looks(looks):
                check(body)
            break
        except InvalidRequestError as error:
            detail = error.errors[0]["detail"]
            stages.add("of the evaluations" if "evaluations" in detail else detail.split(" when ")[0])
    assert stages == {
        "out of time: the request was being read",
        "out of time: the differences were being planned",
        "out of time: the analytic gradient was being computed",
        "out of time: the gradient was being computed by PyTorch",
        "of the evaluations",
        "out of time: the verdicts were being found",
        "out of time: the report was being written",
    }


@pytest.mark.no_cover
def test_a_diagnosis_ends_with_what_it_has_and_says_so():
    body, told = make_flipped_request("conv_tanh_scale_sigmoid"), {}
    with end_time_after_looks(10**9) as ticking:
        whole = check(body)
    for looks in range(ticking.look_count // 2, ticking.look_count + 100, 3):
        try:
            with end_time_after_looks(looks):
                report = check(body)
        except InvalidRequestError:
            continue
        assert report["outcome"] == "fail"
        for name, verdict in report["verdicts"].items():
            assert verdict["diagnoses"], "there is always one"
            for diagnosis in verdict["diagnoses"]:
                said = diagnosis["explanation"]
                ended = "the request ran out of time" in said
                told.setdefault((diagnosis["name"], ended), said)
                if not ended:
                    assert diagnosis in whole["verdicts"][name]["diagnoses"]
    assert ("unknown", True) in told
    assert ("sign_flipped", True) in told
    assert ("sign_flipped", False) in told
