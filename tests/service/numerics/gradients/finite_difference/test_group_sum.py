import math

import numpy as np
import pytest

from service.numerics.gradients.finite_difference.group_sum import GroupSum

GENERATOR = np.random.default_rng(0)
GROUPS = {
    "one": np.zeros(100_000, np.int64),
    "in order": np.repeat([0, 1, 3], [50_000, 7, 49_993]),
    "mixed": GENERATOR.integers(0, 3, 100_000),
    "short": np.arange(60) // 10,
    "many short": np.arange(100_000) // 20,
}


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("equal", [True, False])
def test_sum_of_equal_numbers_is_off_by_a_few_roundings(groups: np.ndarray, equal: bool) -> None:
    count = int(groups.max()) + 2
    row = np.full(groups.size, 0.1234567) if equal else np.random.default_rng(1).uniform(0.1, 0.2, groups.size)
    sums = GroupSum(groups, count).sum_row(row)
    for group in range(min(count, 5)):
        exact = math.fsum(row[groups == group])
        assert abs(sums[group] - exact) <= 20 * 2.0**-53 * exact
    assert sums[-1] == 0
