"""What is said of hypotheses that fit: all that the candidate cannot tell apart, and nothing that it speaks against."""

import numpy as np

from service.numerics.diagnosis.explanation import BugEvidence, explain_matches
from service.numerics.diagnosis.matching import BugHypothesis, HypothesisMatch

ROUNDOFF = 2.0**-53


def match(fault: str, *, fit: float = 0.0, digits: float = 50.0, **more: object) -> HypothesisMatch:
    return HypothesisMatch(BugHypothesis(fault, np.ones(4), f"{more.pop('fact', 'dL/dw is')}", **more), fit, digits)  # type: ignore[arg-type]


def said(*matches: HypothesisMatch, others: tuple[HypothesisMatch, ...] = ()) -> dict[str, str]:
    found = explain_matches(matches, BugEvidence({"w": matches, "v": others}), ROUNDOFF)
    return {each.bug_name: each.explanation for each in found}


def test_explanation_lists_first_actions_and_counts_the_others() -> None:
    stories = [match("cut", bug_key=number, possible_action=f"story {number}") for number in range(7)]
    assert said(*stories[:1]) == {"cut": "Matches exactly: story 0."}
    assert said(*stories[:2])["cut"].endswith("exactly: story 0, or story 1.")
    assert said(*stories[:5])["cut"].endswith("or story 4.")
    assert said(*stories)["cut"].endswith("or story 3, or one of 3 more bugs was made with the same gradient.")


def test_fact_is_reported_beside_its_action() -> None:
    fact = match(
        "scaled", fact="dL/dw is exactly 2 times the reference", fallback_ending="none is known.", fitted_constants=1
    )
    assert said(fact)["scaled"] == "dL/dw is exactly 2 times the reference: none is known."
    story = match("scaled", bug_key=1, possible_action="it was")
    assert said(story, fact)["scaled"] == "Matches exactly: it was. dL/dw is exactly 2 times the reference."


def test_match_without_fit_outranks_fitted_match() -> None:
    exact, fitted = match("cut", bug_key=1, possible_action="exact"), match("decay", fact="fitted.", fitted_constants=1)
    assert said(fitted) == {"decay": "fitted."}
    assert said(exact, fitted).keys() == {"cut"}


def test_far_worse_match_is_omitted() -> None:
    exact, near = (
        match("cut", bug_key=1, possible_action="exact", fit=1e-16),
        match("lost", bug_key=2, possible_action="near", fit=1e-8),
    )
    assert said(near).keys() == {"lost"}
    assert said(exact, near).keys() == {"cut"}
    noisy = match("cut", bug_key=1, possible_action="exact", fit=1e-9)
    assert said(noisy, near).keys() == {"cut", "lost"}
    one, other = (
        match("cut", bug_key=1, possible_action="one", fit=1e-16),
        match("cut", bug_key=2, possible_action="other", fit=1e-8),
    )
    assert said(one, other) == {"cut": "Matches exactly: one."}


def test_match_of_more_gradients_comes_first() -> None:
    both, one = match("cut", bug_key=1, possible_action="both"), match("cut", bug_key=2, possible_action="one")
    assert said(one, both, others=(both,)) == {"cut": "Matches exactly: both."}


def test_contradicted_match_comes_last_with_its_contradiction() -> None:
    spared = match("cut", bug_key=1, possible_action="spared", unchanged_gradients=("dL/dv", "dL/du"))
    assert said(spared)["cut"].endswith(
        "exactly: spared. But the same bug would change dL/dv and 1 more too, and your candidate does not show that."
    )
    assert said(spared, match("lost", bug_key=2, possible_action="other")).keys() == {"lost"}
    assert said(spared, match("cut", bug_key=2, possible_action="other")) == {"cut": "Matches exactly: other."}


def test_chance_match_is_omitted() -> None:
    assert said(match("cut", possible_action="s", digits=13.0)) == {}
    few = match("cut", possible_action="s", digits=8.0)
    assert said(few, others=(few,)).keys() == {"cut"}
