"""Lines of progress, and what may come of them."""

import json
from typing import Any

import numpy as np
import pytest

from gradcheckd import ProblemError, UnexpectedAnswerError
from gradcheckd.progress import decode_arrays, follow_progress

STEP = {"event": "progress", "tensor": "w1", "done": 1, "total": 2}
PROBLEM = {
    "type": "t",
    "title": "Invalid request",
    "status": 422,
    "detail": "out of time",
    "errors": [],
    "total_errors": 3,
}


def encode_lines(*events: dict[str, Any]) -> list[str]:
    return [json.dumps(event) for event in events]


def test_progress_is_reported_and_the_last_line_returned() -> None:
    told: list[Any] = []
    last = {"event": "report", "report": {"outcome": "pass"}, "text": "gradcheckd: pass"}
    assert follow_progress(encode_lines(STEP, last), lambda *step: told.append(step)) == last
    assert told == [("w1", 1, 2)]


def test_a_problem_on_the_way_is_raised() -> None:
    with pytest.raises(ProblemError, match="out of time") as caught:
        follow_progress(encode_lines(STEP, {"event": "problem", "problem": PROBLEM}), print)
    assert "... and 3 more" in str(caught.value)


def test_lines_that_end_without_a_report_are_an_error() -> None:
    with pytest.raises(UnexpectedAnswerError, match="broke off before the report"):
        follow_progress(encode_lines(STEP), print)


@pytest.mark.parametrize(
    "line", ["", "{", "[]", "{}", '{"event": "progress", "done": 1}', '{"event": "report"}', '{"event": "problem"}']
)
def test_progress_line_without_a_field_is_an_error(line: str) -> None:
    with pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"):
        follow_progress([line], print)


def test_callback_error_is_raised_unchanged() -> None:
    with pytest.raises(KeyError, match="mine"):
        follow_progress(encode_lines(STEP), lambda *_: {}["mine"])


def test_a_report_without_its_parts_is_an_error() -> None:
    with pytest.raises(UnexpectedAnswerError, match="answer is not as it should be"):
        decode_arrays({"gradients": {}})


ARRAYS = {
    "nested": ([[0.1, 2.0]], [[0.1, 2.0]]),
    "a number": (0.5, 0.5),
    "spelled": (["NaN", 0.1, "-Infinity"], [np.nan, 0.1, -np.inf]),
    "a number that is spelled": ("Infinity", np.inf),
    "base64": ({"datatype": "FP32", "shape": [1, 2], "b64": "AACAPwAAgD8="}, [[1.0, 1.0]]),
}


@pytest.mark.parametrize(("value", "numbers"), ARRAYS.values(), ids=ARRAYS)
def test_tensors_become_arrays(value: Any, numbers: Any) -> None:
    report = decode_arrays({"gradients": {"w": {"analytic": value}}, "intermediates": {}, "outcome": "pass"})
    array = report["gradients"]["w"]["analytic"]
    assert np.array_equal(array, np.array(numbers), equal_nan=True)
    assert not array.flags.writeable
    assert report["outcome"] == "pass"
