"""Shares of samples that are lost, or that count twice."""

import numpy as np

from tests.solved_problems import SolvedProblem

GENERATOR = np.random.default_rng(7)
X, W, Y = GENERATOR.normal(size=(3, 5, 4)), GENERATOR.normal(size=(2, 4)), GENERATOR.normal(size=(3, 5, 2))
WORKED = SolvedProblem(
    {
        "tensors": {"x": X.tolist(), "y": Y.tolist()},
        "weights": {"w": W.tolist()},
        "model": {
            "nodes": [
                {"name": "z", "op": "linear", "inputs": ["x", "w"]},
                {"name": "loss", "op": "mse_loss", "inputs": ["z", "y"], "reduction": "sum"},
            ]
        },
    }
)
BACK = 2 * (X @ W.T - Y)


def compute_share(*at: int | slice) -> np.ndarray:
    rows, back = X[at].reshape(-1, 4), BACK[at].reshape(-1, 2)
    return back.T @ rows


def explain_candidate(candidate: np.ndarray) -> dict[str, str]:
    return {
        explanation.bug_name: explanation.explanation
        for explanation in WORKED.judge_candidates({"w": candidate})[1]["w"]
    }


def test_single_missing_sample_is_named() -> None:
    assert "the last of the 3 samples" in explain_candidate(compute_share(2))["last_sample_only"]
    assert "the first of the 3 samples" in explain_candidate(compute_share(0))["last_sample_only"]
    assert "the one at index 1 of the 3 samples" in explain_candidate(compute_share(1))["last_sample_only"]


def test_places_of_a_sample_and_rows_of_all_are_found_too() -> None:
    assert (
        "the last of the 5 places of each sample"
        in explain_candidate(compute_share(slice(None), 4))["last_sample_only"]
    )
    assert (
        "the first of the 5 places of each sample"
        in explain_candidate(compute_share(slice(None), 0))["last_sample_only"]
    )
    assert "the last of the 15 rows of all samples" in explain_candidate(compute_share(2, 4))["last_sample_only"]


def test_double_counted_sample_is_named() -> None:
    assert (
        "the last of the 3 samples in z (linear) counted twice"
        in explain_candidate(compute_share() + compute_share(2))["double_counted"]
    )


def test_partial_sample_is_not_named_as_single_sample() -> None:
    assert explain_candidate(compute_share(slice(0, 2))).keys() == {"unknown"}
    assert explain_candidate(compute_share(2) + 0.3 * compute_share(1)).keys() == {"unknown"}
