import numpy as np
import pytest

from service.numerics.ties.fit import Fit
from service.numerics.ties.nested import Aim, Part, searched
from service.numerics.ties.point import Point
from tests.service.numerics.ties.models import maximum_of, nested, point


def parts_of(at: Point, judged: list[float], *, along: bool = False, allowed: float = 1e-12) -> list[Part]:
    aim = Aim(np.array(judged), np.full(len(judged), allowed), np.ones(len(judged), np.bool_), along)
    found = searched(at, lambda gradients: gradients["x"].reshape(len(gradients["x"]), -1), aim, 1)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("judged", "fit"),
    [
        ([1.0, 2.0], Fit.EXPLAINS),
        ([-1.5, 1.5], Fit.EXPLAINS),
        ([0.0, 0.0], Fit.EXPLAINS),
        ([-0.7, -0.1], Fit.EXPLAINS),
        ([3.0, 0.0], Fit.EXPLAINS),
        ([2.0, 2.0], Fit.UNKNOWN),
        ([3.0, 1e-6], Fit.UNKNOWN),
    ],
)
def test_of_the_largest_of_two_absolutes_what_lies_in_their_diamond_is_explained(judged: list[float], fit: Fit) -> None:
    (part,) = parts_of(nested([0.0, 0.0]), judged)
    assert part.fit == fit
    assert (np.abs(part.left).max() <= 1) == (fit == Fit.EXPLAINS)


def test_where_nothing_multiplies_it_is_known_that_no_choice_explains() -> None:
    assert [each.fit for each in parts_of(maximum_of([2.0, 2.0, 1.0]), [1.0, 2.0, 0.0])] == [Fit.EXPLAINS]
    assert [each.fit for each in parts_of(maximum_of([2.0, 2.0, 1.0]), [3.0, 3.0, 0.0])] == [Fit.IMPOSSIBLE]


def test_parts_are_searched_by_themselves() -> None:
    nodes = [("a", "abs", ("x",), {}), ("m", "amax", ("a",), {"dim": 1}), ("loss", "sum", ("m",), {})]
    at = point(nodes, {"x": [[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]})
    found = parts_of(at, [0.4, -0.6, 1.0, 1.0, 0.5, 0.5])
    assert {tuple(each.rows): each.fit for each in found} == {
        (0, 1): Fit.EXPLAINS, (2, 3): Fit.UNKNOWN, (4, 5): Fit.EXPLAINS,
    }  # fmt: skip


def test_along_fewer_directions_than_choices_nothing_is_known() -> None:
    assert [each.fit for each in parts_of(nested([0.0, 0.0]), [1.0, 2.0], along=True)] == [Fit.UNKNOWN]


def test_too_many_alternatives_are_not_searched() -> None:
    at = nested([0.0] * 60)
    aim = Aim(np.zeros(60), np.ones(60), np.ones(60, np.bool_), False)
    assert searched(at, lambda gradients: gradients["x"], aim, 1) is None
