import numpy as np
import pytest

from service.numerics.ties.nested_search import IndependentPart, SearchTarget, search_weights
from service.numerics.ties.tie_point import TiePoint
from service.numerics.ties.weight_fit import FitResult
from tests.service.numerics.ties.tied_models import make_maximum, make_nested, make_tie_point


def search_parts(
    at: TiePoint, judged: list[float], *, along: bool = False, allowed: float = 1e-12
) -> list[IndependentPart]:
    aim = SearchTarget(np.array(judged), np.full(len(judged), allowed), np.ones(len(judged), np.bool_), along)
    parts = search_weights(at, lambda gradients: gradients["x"].reshape(len(gradients["x"]), -1), aim, 1)
    assert parts is not None
    return parts


@pytest.mark.parametrize(
    ("judged", "fit"),
    [
        ([1.0, 2.0], FitResult.EXPLAINS),
        ([-1.5, 1.5], FitResult.EXPLAINS),
        ([0.0, 0.0], FitResult.EXPLAINS),
        ([-0.7, -0.1], FitResult.EXPLAINS),
        ([3.0, 0.0], FitResult.EXPLAINS),
        ([2.0, 2.0], FitResult.UNKNOWN),
        ([3.0, 1e-6], FitResult.UNKNOWN),
    ],
)
def test_maximum_of_absolutes_explains_values_in_their_diamond(judged: list[float], fit: FitResult) -> None:
    (part,) = search_parts(make_nested([0.0, 0.0]), judged)
    assert part.weights == fit
    assert (np.abs(part.residual).max() <= 1) == (fit == FitResult.EXPLAINS)


def test_linear_choices_prove_that_no_choice_explains() -> None:
    assert [part.weights for part in search_parts(make_maximum([2.0, 2.0, 1.0]), [1.0, 2.0, 0.0])] == [
        FitResult.EXPLAINS
    ]
    assert [part.weights for part in search_parts(make_maximum([2.0, 2.0, 1.0]), [3.0, 3.0, 0.0])] == [
        FitResult.IMPOSSIBLE
    ]


def test_parts_are_searched_by_themselves() -> None:
    nodes = [("a", "abs", ("x",), {}), ("m", "amax", ("a",), {"dim": 1}), ("loss", "sum", ("m",), {})]
    at = make_tie_point(nodes, {"x": [[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]})
    parts = search_parts(at, [0.4, -0.6, 1.0, 1.0, 0.5, 0.5])
    assert {tuple(part.rows): part.weights for part in parts} == {
        (0, 1): FitResult.EXPLAINS, (2, 3): FitResult.UNKNOWN, (4, 5): FitResult.EXPLAINS,
    }  # fmt: skip


def test_along_fewer_directions_than_choices_nothing_is_known() -> None:
    assert [part.weights for part in search_parts(make_nested([0.0, 0.0]), [1.0, 2.0], along=True)] == [
        FitResult.UNKNOWN
    ]


def test_too_many_alternatives_are_not_searched() -> None:
    at = make_nested([0.0] * 60)
    aim = SearchTarget(np.zeros(60), np.ones(60), np.ones(60, np.bool_), False)
    assert search_weights(at, lambda gradients: gradients["x"], aim, 1) is None
