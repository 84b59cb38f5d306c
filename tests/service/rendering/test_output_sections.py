"""Judgements of outputs, written for reading."""

import copy

import pytest

from service.checks.blackbox.judge import judge_losses
from service.rendering import render_markdown, render_text
from service.rendering.output_sections import split_name
from tests.service.checks.blackbox.output_requests import make_output_request

BOTH = make_output_request("random", "vjp", "jvp")
JACOBIAN = make_output_request("coordinates", "jacobian")


def join_words(text):
    return " ".join(text.split())


def test_a_pass_is_short():
    text = render_text(judge_losses(BOTH))
    assert text.startswith("gradcheckd: pass\n")
    assert "noise of the outputs" in text
    assert "Verdicts" not in text
    assert "Dot tests" not in text


def test_a_failure_is_shown_by_output_and_tensor():
    body = copy.deepcopy(BOTH)
    body["vjp"]["y"]["b"][1] *= 1.001
    text = render_text(judge_losses(body))
    words = join_words(text)
    assert "output tensor outcome elements directions pass fail" in words
    assert "y b fail 3 4 0 4" in words
    assert "y all tensors pass 48 - 48 0" in words
    assert "y/b: fail" in text
    assert "Dot tests" in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_index_of_a_direction_is_explained():
    body = copy.deepcopy(BOTH)
    body["jvp"]["total"][3] *= 2
    words = join_words(render_text(judge_losses(body)))
    assert "index: the direction, then that of the output" in words
    assert "[3]" in words


def test_a_wrong_element_of_a_jacobian_is_shown():
    body = copy.deepcopy(JACOBIAN)
    body["jacobian"]["y"]["w"][1][2][1][0] *= -1
    for text in (render_text(judge_losses(body)), render_markdown(judge_losses(body)).replace("\\", "")):
        assert "y/w: one element, sign flipped: y/w[1][2][1][0]" in text.replace("`", "").replace("**", "")
        assert "[1, 2, 1, 0]" in text
        assert "Taylor" not in text


@pytest.mark.parametrize("encoding", [None, "binary"])
def test_derivatives_are_shown_with_their_bounds(encoding):
    body = {name: value for name, value in JACOBIAN.items() if name != "jacobian"} | {"include": ["derivatives"]}
    report = judge_losses(body, encoding=encoding)
    words = join_words(render_text(report))
    assert "Numerical derivatives" in words
    assert "y/w [2, 3, 2, 2] 24 of 24 0.968912421711" in words
    assert "Derivatives and their error bounds" not in words
    details = join_words(render_text(report, has_details=True))
    assert "total/w: shape [2, 2], 4 elements index value error bound" in details
    assert "[1, 2, 1, 1] 0.726684316283 7.6e-13" in details


def test_derivatives_that_are_unknown_have_dashes():
    body = make_output_request("coordinates") | {"include": ["derivatives"]}
    for number in range(3):
        body["values"]["total"][number] = "NaN"
    assert "total/w [2, 2] 0 of 4 - -" in join_words(render_text(judge_losses(body)))


def test_all_dot_tests_are_among_the_details():
    assert join_words(render_text(judge_losses(BOTH), has_details=True)).count(" pass y ") >= 1
    assert "Dot tests" in render_text(judge_losses(BOTH), has_details=True)


def test_very_many_names_are_counted():
    outputs = {f"y{number}": [] for number in range(30)}
    body = make_output_request("coordinates") | {"include": ["derivatives"]}
    report = judge_losses(body)
    derivative = report["derivatives"]["total/b"]
    report["derivatives"] = {f"{name}/w": derivative for name in outputs}
    assert "10 more derivatives in the JSON report." in join_words(render_text(report))


def test_names_are_split_at_the_first_slash():
    assert split_name("y/a/b") == ("y", "a/b")
    assert split_name("y") == ("y", "all tensors")
    assert split_name("\x1b/\x07")[0] == "\\x1b"
