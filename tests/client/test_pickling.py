"""Reports and errors go to another process, and are copied."""

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

import gradcheckd
from gradcheckd import GradcheckdError, GradientError, ProblemError, Report, Service, UnreachableError
from gradcheckd.connection import RepeatableRequest

Passed = Callable[[Any], Any]
WAYS = {"pickled": lambda error: pickle.loads(pickle.dumps(error)), "copied": copy.deepcopy}
ways = pytest.mark.parametrize("passed", WAYS.values(), ids=WAYS)


@ways
def test_pickled_report_is_unchanged(service: Service, wrong_arrays: dict[str, Any], passed: Passed) -> None:
    report = service.check(**wrong_arrays, include=["gradients", "intermediates"])
    other: Report = passed(report)
    assert (other.outcome, other.summary, other.verdicts) == (report.outcome, report.summary, report.verdicts)
    assert other.gradients["w1"].analytic.tolist() == report.gradients["w1"].analytic.tolist()
    assert other.discrepancies == report.discrepancies
    assert other.raw.keys() == report.raw.keys()
    assert (other.text(), other.markdown().splitlines()[0]) == (report.text(), "## gradcheckd: fail")
    for mapping in (other.verdicts, other.gradients, other.discrepancies["w1"], other.intermediates, other.raw):
        with pytest.raises(TypeError):
            mapping["w1"] = None  # type: ignore[index]
    for array in (other.gradients["w1"].analytic, other.intermediates["L1"]["value"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@ways
def test_pickled_black_box_report_is_unchanged(service: Service, passed: Passed) -> None:
    report = service.check_function(lambda w: float(w @ w), np.ones(2), -2 * np.ones(2))
    other = passed(report)
    assert (other.outcome, other.noise, other.verdicts) == (report.outcome, report.noise, report.verdicts)
    assert other.text() == report.text()


def test_pickled_error_holds_no_key(url: str, wrong_arrays: dict[str, Any]) -> None:
    report = gradcheckd.check(url=url, key="open-sesame", **wrong_arrays)
    assert b"open-sesame" not in pickle.dumps(report)
    assert "open-sesame" not in repr(RepeatableRequest(url, "/", report._renderer.body, 1, 1, "open-sesame"))  # type: ignore[attr-defined]


ERRORS = [
    ProblemError({"status": 422, "title": "T", "errors": [{"pointer": "/x", "detail": "d"}], "total_errors": 2}),
    UnreachableError("http://x", "it is not there"),
    GradcheckdError("why"),
    gradcheckd.TensorError("why"),
    gradcheckd.RequestError("why"),
    gradcheckd.AnswerTimeoutError("why"),
    gradcheckd.UnexpectedAnswerError("why"),
]


@ways
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_pickled_error_is_unchanged(error: GradcheckdError, passed: Passed) -> None:
    error.add_note("a note")
    other = passed(error)
    assert (type(other), str(other), vars(other)) == (type(error), str(error), vars(error))


def fail_assertion(url: str, candidate: dict[str, Any]) -> None:
    gradcheckd.assert_gradients(
        url=url,
        weights={"w": np.ones(2)},
        model=[{"name": "loss", "op": "sum", "inputs": ["w"]}],
        candidate=candidate,
    )


def test_errors_of_another_process_arrive_whole(url: str) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(GradientError, match="sign_flipped") as failed:
            pool.submit(fail_assertion, url, {"w": -np.ones(2)}).result()
        assert failed.value.report.diagnoses["w"][0].name == "sign_flipped"
        with pytest.raises(ProblemError, match="/candidate/v"):
            pool.submit(fail_assertion, url, {"v": np.ones(2)}).result()
        with pytest.raises(UnreachableError):
            pool.submit(fail_assertion, "http://127.0.0.1:1", {"w": np.ones(2)}).result()
