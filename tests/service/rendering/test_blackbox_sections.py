"""A judgement by losses, written for reading."""

from typing import Any

import pytest

from service.app import create_app
from service.checks.blackbox.judge import judge_losses
from service.checks.blackbox.plan import plan_evaluations
from service.rendering import render_markdown, render_text
from tests.service.rendering.example_reports import make_product_report

CLIENT = create_app().test_client()


def make_request(wrong: float = 1.0, noise: float = 0.0, **fields: Any) -> dict[str, Any]:
    """Of the loss w0^2 w1 + u, with dL/dw1 off by a factor."""
    plan_result = plan_evaluations({"point": {"w": [0.5, -1.5], "u": [2.0]}, **fields})
    points = {name: point.array for name, point in plan_result.points.items()}
    losses = [
        float(w[0] ** 2 * w[1] + u[0]) + noise * ((-1) ** at)
        for at, (w, u) in enumerate(zip(points["w"], points["u"], strict=True))
    ]
    return {"plan": dict(plan_result.plan), "losses": losses, "candidate": {"w": [-1.5, 0.25 * wrong], "u": [1.0]}}


COORDINATES = {"directions": {"kind": "coordinates"}}


def test_a_wrong_element_is_shown_with_its_index() -> None:
    report = judge_losses(make_request(1.5, **COORDINATES))
    written = render_text(report)
    assert written.startswith("gradcheckd: fail\n")
    assert report["summary"].removeprefix("fail: ")[:60] in written
    assert "w: fail" in written
    words = " ".join(written.split())
    assert "[1] 0.375 0.25 " in words
    assert "w: one element: w[1]" in words
    assert "the derivative is 0.667 times the candidate's" in words
    assert "not looked at" not in words
    assert max(map(len, written.splitlines())) <= 100


def test_flipped_sign_is_reported() -> None:
    words = " ".join(render_text(judge_losses(make_request(-1.0, **COORDINATES))).split())
    assert "the derivative is -1 times the candidate's" in words


@pytest.mark.parametrize(
    ("taylor", "said"),
    [
        (
            {"intercept": 0.5, "factor": 1.5},
            "the derivative is 1.5 times the candidate's, and the candidate is off by 0.5",
        ),
        ({"intercept": -1e-6, "factor": 0.999999}, "1 of a wrong one); the candidate is off by -1e-06 of itself."),
        ({"intercept": 0.0, "factor": "NaN"}, "candidate and derivative are 0 along it."),
        ({"intercept": "-Infinity", "factor": "NaN"}, "the candidate is 0 along it, and the derivative is not."),
        ({"intercept": "NaN", "factor": "NaN"}, "the candidate is no number along it."),
    ],
)
def test_candidate_comparison_is_described_in_words(taylor: dict[str, Any], said: str) -> None:
    report = judge_losses(make_request(1.5))
    report["verdicts"]["w"]["taylor"] |= taylor
    assert said in " ".join(render_text(report).split())


def test_unmoved_elements_are_reported() -> None:
    words = " ".join(
        render_text(
            judge_losses(make_request(directions={"kind": "coordinates", "count": 1})), has_details=True
        ).split()
    )
    assert "1 of 2 elements not looked at" in words


def test_random_directions_are_rows() -> None:
    report = judge_losses(make_request())
    assert len(render_text(report).splitlines()) <= 5
    written = render_text(report, has_details=True)
    assert written.startswith("gradcheckd: pass\n")
    assert "random directions" in written
    assert "of the gradient's norm with probability 0.001 at most" in " ".join(written.split())


def test_noisy_loss_makes_no_claim() -> None:
    written = render_text(judge_losses(make_request(noise=10.0)))
    assert written.startswith("gradcheckd: inconclusive\n")
    assert "inconclusive: " in written


def test_hundreds_of_names_are_shortened() -> None:
    names = [f"w{number}" for number in range(30)]
    plan_result = plan_evaluations({"point": dict.fromkeys(names, 0.5), "directions": {"kind": "coordinates"}})
    losses = [
        float(sum(plan_result.points[name].array[at] ** 2 for name in names)) for at in range(plan_result.evaluations)
    ]
    written = render_text(
        judge_losses({"plan": dict(plan_result.plan), "losses": losses, "candidate": dict.fromkeys(names, 2.0)})
    )
    assert "Details of 10 more tensors in the JSON report." in written


@pytest.mark.parametrize(("form", "write"), [("text/plain", render_text), ("text/markdown", render_markdown)])
def test_judgement_is_served_as_text_and_markdown(form: str, write: Any) -> None:
    body = make_request(1.5)
    answer = CLIENT.post("/v1/judge", json=body, headers={"Accept": form})
    assert (answer.status_code, answer.mimetype, answer.text) == (200, form, write(judge_losses(body)))
    assert CLIENT.post("/v1/judge", json=body, headers={"Accept": "text/html"}).status_code == 406


def test_check_report_keeps_its_own_sections() -> None:
    assert "Model" in render_text(make_product_report(["a"]), has_details=True)
