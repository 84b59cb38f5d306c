import numpy as np
import pytest

from service.numerics.gradients.finite_difference.repeat_rounding import RepeatRounding
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS, compute_root_mean_square

COUNT = 2**12


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("tiles", ["base", "all"])
def test_the_sum_of_equal_numbers_is_off_by_as_many_errors(groups: int, tiles: str) -> None:
    equal, different = np.full(COUNT, 0.7), np.random.default_rng(0).uniform(0.6, 0.8, COUNT)
    sums: list[np.ndarray] = []
    for values in (equal, different):
        observer = RepeatRounding(np.random.default_rng(1), groups)
        length = 1 if tiles == "base" else groups * (ROUNDING_SWEEPS + 1)
        array = np.repeat(values[None], length, axis=0)
        errors = observer(array) - array[:1]
        assert (errors[:: ROUNDING_SWEEPS + 1] == 0).all()
        sums.append(compute_root_mean_square(errors.sum(axis=1)))
    assert 0.3 * COUNT**0.5 < sums[0] / sums[1] < 3 * COUNT**0.5


def test_an_error_that_has_a_bound_grows_with_it() -> None:
    array = np.full((1, COUNT), 0.7)
    bounded = RepeatRounding(np.random.default_rng(0), 1)(array, most=np.full((1, COUNT), 2.0**-60)) - 0.7
    free = RepeatRounding(np.random.default_rng(0), 1)(array) - 0.7
    assert 0 < np.abs(bounded).max() < 0.1 * np.abs(free).max()
