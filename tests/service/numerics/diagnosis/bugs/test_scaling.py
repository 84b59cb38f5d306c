"""Factors and cuts, in the words of a colleague."""

import numpy as np
import pytest

from service.numerics.diagnosis.bugs.scaling import fit_scale_factor
from tests.solved_problems import SolvedProblem, solve_preset

MLP = solve_preset("mlp_classifier")


def explain_factor(worked: SolvedProblem, name: str, factor: float) -> dict[str, str]:
    """What is said of a gradient that is off by a factor, by bug."""
    _, explanations = worked.judge_candidates({name: factor * worked.get_gradient(name)})
    return {explanation.bug_name: explanation.explanation for explanation in explanations[name]}


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (
            5.0,
            "Matches exactly: the sum over the batch (B = 5) was ",
        ),
        (0.2, "Matches exactly: at hidden (linear) the mean over the "),
        (2.0, "dL/dw1 is exactly 2 times the reference: one factor is missing or extra (the derivative of a square "),
        (-3.0, "dL/dw1 is exactly minus 3 times the reference: "),
        (1024.0, "Matches exactly: a loss scale of 2^10 was left in. dL/dw1 is exactly 1024 times the reference."),
        (
            7**-0.5,
            "dL/dw1 is exactly 1/sqrt(7) of the reference: one factor is missing or extra (7 is the length of ",
        ),
        (
            1.37,
            "dL/dw1 is 1.37 times the reference everywhere: one factor is missing or extra, and this model suggests",
        ),
    ],
)
def test_scale_factor_is_explained_by_parts_of_the_model(factor: float, said: str) -> None:
    assert explain_factor(MLP, "w1", factor)["scaled"].startswith(said)


def test_scale_factor_lists_all_possible_actions() -> None:
    told = explain_factor(MLP, "w1", 0.2)["scaled"]
    assert told.endswith(
        ", or the mean over the batch (B = 5) was taken once too often, where the loss takes it. "
        "dL/dw1 is exactly 1/5 of the reference."
    )


def test_factor_of_a_summed_loss_is_explained_as_mean() -> None:
    told = explain_factor(solve_preset("conv_tanh_scale_sigmoid"), "w2", 0.25)["scaled"]
    assert "the mean over the batch (B = 4) was taken where the loss takes the sum" in told


def test_flipped_sign_is_not_named_as_scaled() -> None:
    assert explain_factor(MLP, "w1", -1.0).keys() == {"sign_flipped"}


def test_factor_near_a_known_one_is_not_named_as_it() -> None:
    assert "everywhere" in explain_factor(MLP, "w1", 5.001)["scaled"]


def test_scale_factor_of_nonfinite_or_zero_gradients_is_none() -> None:
    ones = np.ones(3)
    for pair in ((ones, 0 * ones), (0 * ones, ones), (np.inf * ones, ones), (ones, np.ones(4))):
        assert fit_scale_factor(*pair) == (0.0, np.inf)
    assert fit_scale_factor(3 * ones, ones) == (3.0, 0.0)
