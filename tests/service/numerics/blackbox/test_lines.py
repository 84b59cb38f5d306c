import numpy as np
import pytest

from service.numerics.blackbox.direction_law import ONE_SIDED_CONCENTRATION
from service.numerics.blackbox.domain import ElementMoves, LossDomain
from service.numerics.blackbox.lines import TensorPoint, draw_element_lines, draw_random_lines, place_near_points
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT, STEP_SCHEDULES

FP64 = STEP_SCHEDULES["FP64"]


def make_point(sides, sizes=None, values=None, datatype="FP64"):
    sides = np.array(sides)
    values = np.zeros(sides.shape) if values is None else np.asarray(values, float)
    sizes = np.ones(sides.shape) if sizes is None else np.asarray(sizes, float)
    low, high = np.where(sides > 0, values, -9.0), np.where(sides < 0, values, 9.0)
    return TensorPoint(values, STEP_SCHEDULES[datatype], 1.0, ElementMoves(sizes, sides), LossDomain(low, high))


def test_an_element_on_a_bound_moves_away_from_it_along_every_direction():
    lines = draw_random_lines(make_point([1, -1, 0] * 40), 4, 0, "w")
    moves = lines.moves.directions
    assert (moves[:, 0::3] >= 0).all()
    assert (moves[:, 1::3] <= 0).all()
    assert (np.abs(moves) <= 3).all()
    assert (moves[:, 2::3].min(), moves[:, 2::3].max()) != (0, 0)
    assert (lines.sides == 1).all()
    assert (lines.has_one_sided_moves, lines.zero_concentration) == (True, 4.3)
    assert draw_random_lines(make_point([0, 0]), 4, 0, "w").zero_concentration == 1.0


def test_a_direction_is_standard_where_the_gradient_is_taken_times_the_weights():
    sizes = [2.0**-20, 1.0, 2.0**20]
    lines = draw_random_lines(make_point([0, 0, 0], sizes), 200, 1, "w")
    assert lines.direction_weights.tolist() == sizes
    assert np.allclose(lines.directions.std(axis=0), 1, atol=0.15)
    gradient = np.array([3.0, -1.0, 2.0])
    along = lines.moves.directions @ gradient / lines.derivative_units
    assert np.allclose(lines.directions @ (gradient * lines.direction_weights), along, rtol=1e-12)


def test_an_element_alone_moves_by_its_size_to_its_side():
    lines = draw_element_lines(make_point([1, -1, 0], [0.5, 4.0, 2.0]), 3, 0, "w")
    assert lines.derivative_units.tolist() == [0.5, 4.0, 2.0]
    assert lines.sides.tolist() == [1, -1, 0]
    assert lines.direction_weights.tolist() == [1.0]


@pytest.mark.parametrize("datatype", STEP_SCHEDULES)
@pytest.mark.parametrize("line", [0, 1])
def test_near_points_lie_within_bounds_and_move_what_they_can(datatype, line):
    one = make_point([1, -1, 0] * 20, values=np.full(60, 0.5), datatype=datatype)
    points = place_near_points(one, 3, "w", line, random=True)
    assert points.shape == (NEAR_POINT_COUNT, 60)
    assert one.domain is not None
    assert one.domain.contains_points(points).all()
    assert one.schedule.precision.is_representable(points).all()
    assert (np.ptp(points, axis=0) > 0).mean() > 0.7


def test_an_element_that_is_moved_by_little_still_feels_the_noise():
    one = TensorPoint(np.full(40, 3.0), FP64, 1.0, ElementMoves(np.full(40, 2.0**-33), np.zeros(40, int)))
    for line in range(2):
        points = place_near_points(one, 0, "w", line, random=False)
        assert (np.ptp(points, axis=0) > 0).mean() > 0.7
        assert np.abs(points - 3).max() < 2.0**-36, "no farther than other points"


@pytest.mark.no_cover
def test_sums_with_numbers_of_one_sign_are_never_much_denser_at_0():
    """The densest of those tried come up to twice the density of N(0, 1)."""
    generator = np.random.default_rng(0)
    densest = 0.0
    for _ in range(60):
        n = int(generator.integers(1, 8))
        errors = generator.normal(size=n) * 10 ** generator.uniform(-1, 0, n)
        drawn = generator.uniform(-1, 1, size=(3, 20_000, n)).sum(axis=0)
        halved = generator.random(n) < 0.8
        sums = np.where(halved, np.abs(drawn), drawn) @ (errors / np.linalg.norm(errors))
        densest = max(densest, float((np.abs(sums) < 0.05).mean()) / 0.0399)
    assert 1.2 < densest < ONE_SIDED_CONCENTRATION
