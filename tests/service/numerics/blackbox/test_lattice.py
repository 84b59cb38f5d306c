from fractions import Fraction

import numpy as np
import pytest

from service.numerics.blackbox.lattice import on_lattice
from service.numerics.blackbox.schedule import SCHEDULES
from service.numerics.precision import PRECISIONS


def lines(datatype, spread=1.0, n=200):
    generator = np.random.default_rng(5)
    schedule, precision = SCHEDULES[datatype], PRECISIONS[datatype]
    point = precision.nearest(generator.normal(size=n) * 10 ** generator.uniform(-spread, 0, n))
    wanted = generator.normal(size=(3, n))
    found = on_lattice(point, wanted, np.array(1.0), schedule.farthest, schedule.finest, precision)
    return point, wanted, found, schedule


@pytest.mark.parametrize("datatype", SCHEDULES)
def test_every_step_is_exact_on_both_sides(datatype):
    """In rational numbers: the points are numbers of the datatype, and what lies between them is 2 h v."""
    _, _, found, schedule = lines(datatype)
    for step in schedule.steps.tolist():
        plus, minus = found.starts + step * found.moves, found.starts - step * found.moves
        assert schedule.precision.represents(plus).all()
        assert schedule.precision.represents(minus).all()
        for start, move, up, down in zip(
            *(each.ravel().tolist() for each in (found.starts, found.moves, plus, minus)), strict=True
        ):
            assert Fraction(up) - Fraction(start) == Fraction(start) - Fraction(down) == Fraction(step) * Fraction(move)


@pytest.mark.parametrize("datatype", SCHEDULES)
def test_what_was_wanted_is_nearly_what_there_is(datatype):
    point, wanted, found, schedule = lines(datatype)
    assert np.abs(found.moves - wanted).max() <= found.coarseness / 2
    assert np.abs(found.starts - point).max() <= found.coarseness * schedule.finest / 2
    assert found.displaced.shape == (3,)
    off = np.linalg.norm(found.starts - point, axis=1) / np.linalg.norm(found.moves, axis=1)
    assert np.allclose(found.displaced, off)


def test_an_element_that_does_not_move_stays():
    point = np.array([0.1, 0.3])
    found = on_lattice(point, np.array([[1.0, 0.0]]), np.array(1.0), 0.125, 2.0**-15, PRECISIONS["FP64"])
    assert found.starts[0, 1] == 0.3
    assert found.moves[0, 1] == 0


def test_next_to_zero_the_smallest_numbers_are_the_lattice():
    found = on_lattice(np.array([0.0]), np.array([[1e-318]]), np.array(1e-318), 0.5, 0.25, PRECISIONS["FP64"])
    assert found.moves[0, 0] == pytest.approx(1e-318, rel=1e-2)
