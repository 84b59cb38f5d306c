"""Factors that a model suggests."""

import pytest

from service.numerics.faults.factors import known, said
from tests.candidates import preset


def texts(name: str, of: str, value: float) -> list[str]:
    return [each.text for each in known(preset(name).scene(), of) if each.value == pytest.approx(value, rel=1e-12)]


def test_the_scale_of_attention_is_one() -> None:
    assert texts("attention_block", "w_query", 3**0.5)[0] == (
        "the factor 0.57735 of attended (scaled_dot_product_attention) was left out"
    )


def test_uses_of_a_shared_weight_are_one() -> None:
    assert "the mean over its 2 uses was taken instead of the sum" in texts("lstm_step", "w_hidden", 0.5)


def test_elements_of_a_sample_are_told_from_the_batch() -> None:
    found = texts("layer_norm_mlp", "w2", 3)
    assert found[0] == "the sum over the 3 elements of a sample was taken where the loss takes the mean"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "3 times"),
        (1 / 3, "1/3 of"),
        (3**0.5, "sqrt(3) times"),
        (3**-0.5, "1/sqrt(3) of"),
        (0.37, "0.37 times"),
    ],
)
def test_a_factor_reads_well(value: float, words: str) -> None:
    assert said(value) == words
