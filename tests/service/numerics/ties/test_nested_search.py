import numpy as np
import pytest

from service.numerics.ties.nested_search import IndependentPart, SearchTarget, search_weights
from service.numerics.ties.tie_point import TiePoint
from service.numerics.ties.weight_fit import FitResult
from tests.service.numerics.ties.tied_models import make_maximum, make_nested, make_tie_point


def parts_of(
    at: TiePoint, judged: list[float], *, along: bool = False, allowed: float = 1e-12
) -> list[IndependentPart]:
    aim = SearchTarget(np.array(judged), np.full(len(judged), allowed), np.ones(len(judged), np.bool_), along)
    found = search_weights(at, lambda gradients: gradients["x"].reshape(len(gradients["x"]), -1), aim, 1)
    assert found is not None
    return found


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
    (part,) = parts_of(make_nested([0.0, 0.0]), judged)
    assert part.weights == fit
    assert (np.abs(part.residual).max() <= 1) == (fit == FitResult.EXPLAINS)


def test_linear_choices_prove_that_no_choice_explains() -> None:
    assert [each.weights for each in parts_of(make_maximum([2.0, 2.0, 1.0]), [1.0, 2.0, 0.0])] == [FitResult.EXPLAINS]
    assert [each.weights for each in parts_of(make_maximum([2.0, 2.0, 1.0]), [3.0, 3.0, 0.0])] == [FitResult.IMPOSSIBLE]


def test_parts_are_searched_by_themselves() -> None:
    nodes = [("a", "abs", ("x",), {}), ("m", "amax", ("a",), {"dim": 1}), ("loss", "sum", ("m",), {})]
    at = make_tie_point(nodes, {"x": [[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]})
    found = parts_of(at, [0.4, -0.6, 1.0, 1.0, 0.5, 0.5])
    assert {tuple(each.rows): each.weights for each in found} == {
        (0, 1): FitResult.EXPLAINS, (2, 3): FitResult.UNKNOWN, (4, 5): FitResult.EXPLAINS,
    }  # fmt: skip


def test_along_fewer_directions_than_choices_nothing_is_known() -> None:
    assert [each.weights for each in parts_of(make_nested([0.0, 0.0]), [1.0, 2.0], along=True)] == [FitResult.UNKNOWN]


def test_too_many_alternatives_are_not_searched() -> None:
    at = make_nested([0.0] * 60)
    aim = SearchTarget(np.zeros(60), np.ones(60), np.ones(60, np.bool_), False)
    assert search_weights(at, lambda gradients: gradients["x"], aim, 1) is None
