from fractions import Fraction

import numpy as np
import pytest

from service.numerics.blackbox.lattice import round_to_lattice
from service.numerics.blackbox.schedule import STEP_SCHEDULES
from service.numerics.core.precision import PRECISIONS


def draw_lines(datatype, spread=1.0, n=200):
    generator = np.random.default_rng(5)
    schedule, precision = STEP_SCHEDULES[datatype], PRECISIONS[datatype]
    point = precision.round_to_nearest(generator.normal(size=n) * 10 ** generator.uniform(-spread, 0, n))
    wanted = generator.normal(size=(3, n))
    lattice = round_to_lattice(point, wanted, np.array(1.0), schedule.largest_step, schedule.smallest_step, precision)
    return point, wanted, lattice, schedule


@pytest.mark.parametrize("datatype", STEP_SCHEDULES)
def test_every_step_is_exact_on_both_sides(datatype):
    """In rational numbers: the points are numbers of the datatype, and what lies between them is 2 h v."""
    _, _, lattice, schedule = draw_lines(datatype)
    for step in schedule.steps.tolist():
        plus, minus = lattice.starts + step * lattice.directions, lattice.starts - step * lattice.directions
        assert schedule.precision.is_representable(plus).all()
        assert schedule.precision.is_representable(minus).all()
        for start, move, up, down in zip(
            *(array.ravel().tolist() for array in (lattice.starts, lattice.directions, plus, minus)), strict=True
        ):
            assert Fraction(up) - Fraction(start) == Fraction(start) - Fraction(down) == Fraction(step) * Fraction(move)


@pytest.mark.parametrize("datatype", STEP_SCHEDULES)
def test_rounded_moves_are_near_the_wanted_ones(datatype):
    point, wanted, lattice, schedule = draw_lines(datatype)
    assert np.abs(lattice.directions - wanted).max() <= lattice.coarseness / 2
    assert np.abs(lattice.starts - point).max() <= lattice.coarseness * schedule.smallest_step / 2
    assert lattice.displacement.shape == (3,)
    off = np.linalg.norm(lattice.starts - point, axis=1) / np.linalg.norm(lattice.directions, axis=1)
    assert np.allclose(lattice.displacement, off)


def test_an_element_that_does_not_move_stays():
    point = np.array([0.1, 0.3])
    lattice = round_to_lattice(point, np.array([[1.0, 0.0]]), np.array(1.0), 0.125, 2.0**-15, PRECISIONS["FP64"])
    assert lattice.starts[0, 1] == 0.3
    assert lattice.directions[0, 1] == 0


def test_next_to_zero_the_smallest_numbers_are_the_lattice():
    lattice = round_to_lattice(np.array([0.0]), np.array([[1e-318]]), np.array(1e-318), 0.5, 0.25, PRECISIONS["FP64"])
    assert lattice.directions[0, 0] == pytest.approx(1e-318, rel=1e-2)
