"""Factors of a whole gradient that a model suggests."""

import pytest

from service.numerics.diagnosis.bugs.known_factors import KnownFactor, describe_factor, iterate_known_factors
from tests.solved_problems import solve_preset


def find_factors(name: str, of: str, value: float) -> list[KnownFactor]:
    return [
        factor
        for factor in iterate_known_factors(solve_preset(name).build_context(), of)
        if factor.value == pytest.approx(value, rel=1e-12)
    ]


def test_uses_of_a_shared_weight_count_as_one_factor() -> None:
    (told, *_) = (factor.explanation for factor in find_factors("lstm_step", "w_hidden", 0.5) if not factor.is_vague)
    assert told == "the mean over the 2 uses of w_hidden was taken instead of the sum"


def test_factor_without_multiplier_reports_fact_without_action() -> None:
    (told,) = find_factors("mlp_classifier", "w1", 7)
    assert told == KnownFactor(told.value, "7 is the length of an axis of x, w1", is_vague=True)
    (told,) = find_factors("mlp_classifier", "w1", 7**-0.5)
    assert told.is_vague


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3 times"),
        (1 / 3, "1/3 of"),
        (3**0.5, "sqrt(3) times"),
        (3**-0.5, "1/sqrt(3) of"),
        (0.37, "0.37 times"),
        (1e16, "1e+16 times"),
        (1e300, "1e+300 times"),
        (5e-324, "4.94066e-324 times"),
        (float("inf"), "inf times"),
    ],
)
def test_known_factor_is_described_in_words(value: float, words: str) -> None:
    assert describe_factor(value) == words
