"""Random values follow from the seed and the name."""

import numpy as np
import pytest

from service.checks.importing.random_values import ValueSource
from tests.service.checks.importing.onnx_files import (
    FLOAT,
    make_file,
    node,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_the_values_of_inputs_follow_from_the_seed_and_the_name_alone():
    content = make_file([node("Add", "a b")], {"a": (FLOAT, [3]), "b": (FLOAT, [3])})
    first, again, other = (run_import(content, seed=seed).tensors["a"].array for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    alone = run_import(make_file([node("Relu", "a")], {"a": (FLOAT, [3])}), seed=1).tensors["a"].array
    np.testing.assert_array_equal(first, alone)


def test_values_do_not_depend_on_the_order_in_which_they_are_drawn():
    first, second = ValueSource(5), ValueSource(5)
    one = first.draw_floats("a", [4])
    second.draw_integers("b", [4], 3)
    np.testing.assert_array_equal(one, second.draw_floats("a", [4]))
    assert not np.array_equal(one, second.draw_floats("b", [4]))


@pytest.mark.parametrize("limit", [0, 1, 2, 7])
def test_integers_lie_below_their_limit(limit):
    values = ValueSource(0).draw_integers("\ud800", [200], limit)
    assert set(values.tolist()) == set(range(max(1, limit)))
