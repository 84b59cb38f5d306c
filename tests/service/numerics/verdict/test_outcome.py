import pytest

from service.numerics.verdict.outcome import Cause, Outcome


def test_fail_prevails_over_inconclusive_over_pass():
    assert sorted(Outcome) == [Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL]
    assert [outcome.wire_name for outcome in Outcome] == ["pass", "inconclusive", "fail"]


@pytest.mark.parametrize("cause", Cause, ids=lambda cause: cause.name)
def test_cause_descriptions_are_clauses_with_remedies(cause):
    assert cause.outcome is cause.description.outcome
    assert cause.description.cause[0].islower()
    assert not cause.description.cause.endswith(".")
    assert cause.description.remedy.endswith(".")


def test_cause_descriptions_are_distinct():
    """An enum makes members of equal value aliases of each other."""
    assert len(Cause) == len(Cause.__members__) == 13
    assert {cause.outcome for cause in Cause} == set(Outcome)
