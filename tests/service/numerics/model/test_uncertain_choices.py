from typing import Any

import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.model.uncertain_choices import (
    choose_first_values,
    mark_uncertain_gradients,
    mark_uncertain_output,
)
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.discrete import ANY_VALUE

GATHER = OP_REGISTRY["gather"](dim=0)
X = np.arange(4.0)[None]
INDEX = np.array([[0, 1, 2], [0, 3, 2]])


def test_only_elements_that_another_index_changes_are_marked() -> None:
    output = mark_uncertain_output(GATHER, X[:, :3], (X, INDEX), 3)
    np.testing.assert_array_equal(np.isnan(output), [[False] * 3, [False, True, False], [False, True, False]])
    by_input, by_index = mark_uncertain_gradients(GATHER, (np.ones((1, 4)), None), (X, INDEX), 3)
    assert by_index is None
    assert by_input is not None
    np.testing.assert_array_equal(np.isnan(by_input[1]), [False, True, False, True])
    assert not np.isnan(by_input[0]).any()


def test_only_elements_behind_an_uncertain_truth_are_marked() -> None:
    where, mask = OP_REGISTRY["where"](), np.array([[True, False], [True, True]])
    inputs = (mask, np.zeros((1, 2)), np.zeros((1, 2)))
    np.testing.assert_array_equal(np.isnan(mark_uncertain_output(where, np.zeros((1, 2)), inputs, 2))[1], [False, True])
    _, *gradients = mark_uncertain_gradients(where, (None, np.ones((1, 2)), np.ones((1, 2))), inputs, 2)
    assert all(np.isnan(gradient[1]).tolist() == [False, True] for gradient in gradients if gradient is not None)


def test_any_index_makes_everything_uncertain() -> None:
    inputs = (X, np.array([[0, 1, 2], [0, ANY_VALUE, 2]]))
    assert np.isnan(mark_uncertain_output(GATHER, X[:, :3], inputs, 2)[1]).all()
    by_input, _ = mark_uncertain_gradients(GATHER, (np.ones((1, 4)), None), inputs, 2)
    assert by_input is not None
    assert np.isnan(by_input[1]).all()


def test_certain_choices_mark_nothing() -> None:
    output = np.ones((1, 3))
    assert mark_uncertain_output(GATHER, output, (X, INDEX[:1]), 3) is output
    assert choose_first_values((X, INDEX, None))[1].tolist() == [[0, 1, 2]]  # type: ignore[union-attr]


def judge(model: str, tensors: dict[str, Any], w: Any, candidate: Any, **fields: Any) -> list[list[str]] | str:
    body = {"model": model, "tensors": tensors, "weights": {"w": w}, "candidate": {"w": candidate}, **fields}
    return check(body)["outcome"]


SELECTION = "a = mul(x, 0.1)\nb = mul(x, s)\ni = argmax({}, 0, True)\ng = gather(w, 0, i)\nloss = sum(g)"


def test_a_choice_that_rounding_decides_is_inconclusive_and_one_that_it_does_not_is_judged() -> None:
    """0.1 x and 0.1 x are equal but for their rounding, which programs may do otherwise."""
    w = [1.0, 2.0, 3.0]
    model = SELECTION.format("c").replace("i = ", "c = cat([a, b])\ni = ")
    tensors: dict[str, Any] = {"x": [3.0], "s": 0.1 + 2.0**-55}
    first, second = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]
    assert judge(model, tensors, w, first) == "inconclusive"
    assert judge(model, tensors, w, second) == "inconclusive"
    assert judge(model, tensors, w, [0.0, 0.0, 1.0]) == "fail"
    tensors["s"] = 0.11
    assert judge(model, tensors, w, second) == "pass"
    assert judge(model, tensors, w, first) == "fail"


@pytest.mark.parametrize(("bound", "outcome"), [(0.3, "inconclusive"), (0.3001, "pass"), (0.299, "pass")])
def test_a_comparison_that_rounding_decides_is_inconclusive(bound: float, outcome: str) -> None:
    """0.1 x is 0.3 or the next number, by the order of roundings."""
    model = "a = mul(x, 0.1)\nm = gt(a, b)\ny = where(m, w, 0.0)\nloss = sum(y)"
    right = [float(bound < 3.0 * 0.1), 1.0]
    assert judge(model, {"x": [3.0, 9.0], "b": bound}, [1.0, 2.0], right) == outcome
    wrong = [right[0], 0.0]
    assert judge(model, {"x": [3.0, 9.0], "b": bound}, [1.0, 2.0], wrong) == "fail"


def test_a_comparison_of_exact_numbers_is_decided() -> None:
    model = "m = ge(w, 0)\ny = where(m, w, 0.0)\nloss = sum(y)"
    assert judge(model, {}, [0.0, 1.0, -1.0], [1.0, 1.0, 0.0]) == "pass"
    assert judge(model, {}, [0.0, 1.0, -1.0], [0.0, 1.0, 0.0]) == "fail"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_narrow_dtypes_decide_less(dtype: str) -> None:
    model = "a = mul(x, 0.1)\nm = gt(a, 0.299)\ny = where(m, w, 0.0)\nloss = sum(y)"
    right = [1.0, 1.0]
    expected = "inconclusive" if dtype == "bfloat16" else "pass"
    assert judge(model, {"x": [3.0, 9.0]}, [1.0, 2.0], right, dtype=dtype) == expected
    assert judge(model, {"x": [3.0, 9.0]}, [1.0, 2.0], [1.0, 0.0], dtype=dtype) == "fail"


def test_positions_among_equal_elements_are_inconclusive() -> None:
    model = "t = topk(x, 2)\ng = gather(w, 0, t.indices)\nloss = sum(g)"
    x, w = [1.0, 5.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]
    assert judge(model, {"x": x}, w, [1.0, 1.0, 0.0, 0.0]) == "inconclusive"
    assert judge(model, {"x": x}, w, [0.0, 1.0, 1.0, 0.0]) == "inconclusive"
    assert judge(model, {"x": x}, w, [0.0, 0.0, 1.0, 0.0]) == "fail"
    assert judge(model, {"x": x}, w, [1.0, 1.0, 0.0, 1.0]) == "fail"
