from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor
from tests.op_graphs import build_reference_model


def test_inline_executor_is_an_executor() -> None:
    with InlineExecutor() as executor:
        assert executor.submit(pow, 2, 5).result() == 32
        assert list(executor.map(pow, (2, 3), (5, 2))) == [32, 9]


def test_inline_executor_raises_with_the_result() -> None:
    future = InlineExecutor().submit(int, "seven")
    with pytest.raises(ValueError, match="seven"):
        future.result()


def test_inline_executor_calls_on_request_of_the_result() -> None:
    calls = []
    results = InlineExecutor().map(calls.append, range(5))
    assert calls == []
    next(results)
    assert calls == [0]


def test_blocks_elsewhere_give_the_same_bits() -> None:
    graph, leaves = build_reference_model((12, 12), (3, 3))
    here = finite_difference.differentiate_numerically(graph, leaves, ["x", "w2"])
    with ThreadPoolExecutor(2) as executor:
        there = finite_difference.differentiate_numerically(graph, leaves, ["x", "w2"], executor=executor)
    for name, expected in here.items():
        np.testing.assert_array_equal(there[name].value, expected.value)
        np.testing.assert_array_equal(there[name].error_bound, expected.error_bound)
