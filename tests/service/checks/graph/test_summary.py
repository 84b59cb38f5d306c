import pytest

from service.checks.common.summary import summarize
from service.checks.graph.summary import summarize_check
from service.numerics.verdict.disagreement import Partition
from service.numerics.verdict.outcome import Outcome
from tests.service.checks.common.test_summary import ALONG, make_verdict

OURS = " No candidate was given for b: there our own gradients were judged."


def test_summary_names_the_judged_source():
    verdicts = {"w": make_verdict(Outcome.PASS, (1, 0, 0)), "b": make_verdict(Outcome.PASS, (1, 0, 0))}
    assert summarize_check(Outcome.PASS, verdicts, {}, ["b"]) == summarize(Outcome.PASS, verdicts) + OURS


@pytest.mark.parametrize(
    ("agreeing", "dissenting", "words"),
    [
        (
            ("analytic", "autograd"),
            ("finite_difference",),
            "analytic and autograd agree and finite difference does not",
        ),
        ((), ("analytic", "autograd"), "analytic and autograd differ and the finite difference cannot tell which is"),
        ((), ("analytic", "autograd", "finite_difference"), "analytic, autograd and finite difference all disagree"),
    ],
)
def test_a_disagreement_of_our_own_comes_first(agreeing, dissenting, words):
    verdicts = {"w": make_verdict(Outcome.INCONCLUSIVE, (0, 4, 0), unexamined_count=3)}
    text = summarize_check(Outcome.INCONCLUSIVE, verdicts, {"w": [Partition(2, agreeing, dissenting)]}, [])
    assert text.startswith(f"Our own gradients disagree: at 2 of 4 examined elements of w, {words}")
    assert text.endswith(summarize(Outcome.INCONCLUSIVE, verdicts))


def test_directions_are_counted_and_further_names_too():
    along = make_verdict(Outcome.INCONCLUSIVE, unexamined_count=9, direction_results=(ALONG, ALONG))
    partition = [Partition(1, ("analytic", "autograd"), ("finite_difference",))]
    text = summarize_check(Outcome.INCONCLUSIVE, {"w": along, "b": along}, {"w": partition, "b": partition}, [])
    assert text.startswith("Our own gradients disagree: at 1 of 2 directions of w (and in 1 other), ")
