"""What is said of hypotheses that fit: all that the candidate cannot tell apart, and nothing that it speaks against."""

import numpy as np

from service.numerics.diagnosis.explanation import BugEvidence, explain_matches
from service.numerics.diagnosis.matching import BugHypothesis, HypothesisMatch

ROUNDOFF = 2.0**-53


def make_match(fault: str, *, fit: float = 0.0, digits: float = 50.0, **more: object) -> HypothesisMatch:
    return HypothesisMatch(BugHypothesis(fault, np.ones(4), f"{more.pop('fact', 'dL/dw is')}", **more), fit, digits)  # type: ignore[arg-type]


def explain(*matches: HypothesisMatch, others: tuple[HypothesisMatch, ...] = ()) -> dict[str, str]:
    explanations = explain_matches(matches, BugEvidence({"w": matches, "v": others}), ROUNDOFF)
    return {explanation.bug_name: explanation.explanation for explanation in explanations}


def test_explanation_lists_first_actions_and_counts_the_others() -> None:
    stories = [make_match("cut", bug_key=number, possible_action=f"story {number}") for number in range(7)]
    assert explain(*stories[:1]) == {"cut": "Matches exactly: story 0."}
    assert explain(*stories[:2])["cut"].endswith("exactly: story 0, or story 1.")
    assert explain(*stories[:5])["cut"].endswith("or story 4.")
    assert explain(*stories)["cut"].endswith("or story 3, or one of 3 more bugs was made with the same gradient.")


def test_fact_is_reported_beside_its_action() -> None:
    fact = make_match(
        "scaled", fact="dL/dw is exactly 2 times the reference", fallback_ending="none is known.", fitted_constants=1
    )
    assert explain(fact)["scaled"] == "dL/dw is exactly 2 times the reference: none is known."
    story = make_match("scaled", bug_key=1, possible_action="it was")
    assert explain(story, fact)["scaled"] == "Matches exactly: it was. dL/dw is exactly 2 times the reference."


def test_match_without_fit_outranks_fitted_match() -> None:
    exact, fitted = (
        make_match("cut", bug_key=1, possible_action="exact"),
        make_match("decay", fact="fitted.", fitted_constants=1),
    )
    assert explain(fitted) == {"decay": "fitted."}
    assert explain(exact, fitted).keys() == {"cut"}


def test_far_worse_match_is_omitted() -> None:
    exact, near = (
        make_match("cut", bug_key=1, possible_action="exact", fit=1e-16),
        make_match("lost", bug_key=2, possible_action="near", fit=1e-8),
    )
    assert explain(near).keys() == {"lost"}
    assert explain(exact, near).keys() == {"cut"}
    noisy = make_match("cut", bug_key=1, possible_action="exact", fit=1e-9)
    assert explain(noisy, near).keys() == {"cut", "lost"}
    one, other = (
        make_match("cut", bug_key=1, possible_action="one", fit=1e-16),
        make_match("cut", bug_key=2, possible_action="other", fit=1e-8),
    )
    assert explain(one, other) == {"cut": "Matches exactly: one."}


def test_match_of_more_gradients_comes_first() -> None:
    both, one = (
        make_match("cut", bug_key=1, possible_action="both"),
        make_match("cut", bug_key=2, possible_action="one"),
    )
    assert explain(one, both, others=(both,)) == {"cut": "Matches exactly: both."}


def test_contradicted_match_comes_last_with_its_contradiction() -> None:
    spared = make_match("cut", bug_key=1, possible_action="spared", unchanged_gradients=("dL/dv", "dL/du"))
    assert explain(spared)["cut"].endswith(
        "exactly: spared. But the same bug would change dL/dv and 1 more too, and your candidate does not show that."
    )
    assert explain(spared, make_match("lost", bug_key=2, possible_action="other")).keys() == {"lost"}
    assert explain(spared, make_match("cut", bug_key=2, possible_action="other")) == {"cut": "Matches exactly: other."}


def test_chance_match_is_omitted() -> None:
    assert explain(make_match("cut", possible_action="s", digits=13.0)) == {}
    few = make_match("cut", possible_action="s", digits=8.0)
    assert explain(few, others=(few,)).keys() == {"cut"}
