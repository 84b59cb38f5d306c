import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.model.monte_carlo import SharedRounding, compute_root_mean_square


@pytest.mark.parametrize(("values", "low", "high"), [(np.full(4096, 0.7), 500.0, 8000.0), (None, 20.0, 300.0)])
def test_errors_of_equal_numbers_add_up(values: np.ndarray | None, low: float, high: float) -> None:
    """Those of n different ones add up as the root of n."""
    values = np.random.default_rng(0).uniform(0.6, 0.8, 4096) if values is None else values
    observer = SharedRounding(PRECISIONS["FP32"], np.random.default_rng(0))
    errors = observer.operation(values[None]) - values
    assert (errors[0] == 0).all()
    total = compute_root_mean_square(errors[1:].sum(axis=1)) / (0.7 * 2.0**-24)
    assert low < total < high
    single = compute_root_mean_square(errors[1:].ravel()) / (0.7 * 2.0**-24)
    assert 0.4 < single < 0.8, "each of them is as large as before"


@pytest.mark.parametrize(("distance", "low", "high"), [(1e-10, 500.0, 8000.0), (1e-5, 20.0, 300.0)])
def test_errors_of_equally_rounded_numbers_add_up(distance: float, low: float, high: float) -> None:
    """In float32 numbers 1e-10 apart round to the same one, and numbers 1e-5 apart do not."""
    values = 0.7 + distance * np.random.default_rng(0).uniform(-1, 1, 4096)
    observer = SharedRounding(PRECISIONS["FP32"], np.random.default_rng(0))
    total = compute_root_mean_square((observer.operation(values[None]) - values)[1:].sum(axis=1)) / (0.7 * 2.0**-24)
    assert low < total < high


def test_only_equal_float64_numbers_round_alike() -> None:
    values = 0.7 + 2.0**-53 * np.arange(4096)
    observer = SharedRounding(PRECISIONS["FP64"], np.random.default_rng(0))
    total = compute_root_mean_square((observer.operation(values[None]) - values)[1:].sum(axis=1)) / (0.7 * 2.0**-30)
    assert 20 < total < 300
