import numpy as np
import pytest

from service.numerics.ops.ordered_selection import OrderedSelection
from service.numerics.ops.ranks import Argsort, FirstRanks, OneRank, OrderSoFar

SORT = OrderedSelection(dim=0, order=Argsort(dim=0))


def test_a_gradient_goes_back_to_the_place_of_its_element() -> None:
    x = np.array([[3.0, 1.0, 2.0]])
    np.testing.assert_array_equal(SORT.forward(x), [[1, 2, 3]])
    np.testing.assert_array_equal(SORT.backward(np.array([[10.0, 20.0, 30.0]]), SORT.forward(x), x)[0], [[30, 10, 20]])


def test_tiles_are_ordered_each_for_itself() -> None:
    x = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    np.testing.assert_array_equal(SORT.forward(x), [[1, 2, 3], [0, 4, 5]])
    (by_input,) = SORT.backward(np.array([[1.0, 2.0, 3.0]]), SORT.forward(x), x)
    np.testing.assert_array_equal(by_input, [[3, 1, 2], [1, 3, 2]])


def test_a_piece_goes_on_beyond_its_end() -> None:
    branch = SORT.select_branch(np.array([[3.0, 1.0, 2.0]]))
    np.testing.assert_array_equal(SORT.forward_on_branch(branch, np.array([[0.0, 1.0, 2.0]])), [[1, 2, 0]])


def test_results_that_are_the_same_element_add_up() -> None:
    op = OrderedSelection(dim=0, order=OrderSoFar(dim=0), is_running=True)
    x = np.array([[2.0, 1.0, 3.0, 0.0]])
    np.testing.assert_array_equal(op.forward(x), [[2, 2, 3, 3]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 4)), op.forward(x), x)[0], [[2, 0, 2, 0]])
    (rounding,) = op.estimate_backward_rounding(-np.ones((1, 4)), op.forward(x), x)
    assert rounding is not None
    np.testing.assert_array_equal(rounding.magnitude, [[2, 0, 2, 0]])


def test_near_elements_are_choices_of_each_rank() -> None:
    op = OrderedSelection(dim=1, order=FirstRanks(dim=1, k=2))
    x = np.array([[[1.0, 5.0, 5.0, 2.0], [7.0, 1.0, 3.0 + 1e-12, 3.0]]])
    choices = op.list_subgradient_choices([np.full(x.shape, 1e-11)], x)
    assert choices is not None
    np.testing.assert_array_equal(choices.output_indices, [0, 0, 1, 1, 3, 3])
    np.testing.assert_array_equal(choices.entry_elements, [1, 2, 1, 2, 6, 7])
    np.testing.assert_array_equal(choices.weights, [1, 0, 0, 1, 1, 0])
    np.testing.assert_array_equal(choices.is_exact_tie, [True] * 4 + [True, False])


def test_without_near_elements_there_is_no_choice() -> None:
    x = np.array([[1.0, 2.0, 3.0]])
    assert SORT.list_subgradient_choices([np.full(x.shape, 1e-9)], x) is None
    assert (
        OrderedSelection(dim=0, order=OneRank(dim=0, rank=0)).list_subgradient_choices([np.zeros((1,))], np.ones((1,)))
        is None
    )


def test_elements_behind_a_result_are_no_choice_of_a_running_extreme() -> None:
    op = OrderedSelection(dim=0, order=OrderSoFar(dim=0), is_running=True)
    x = np.array([[1.0, 1.0, 0.0, 1.0]])
    choices = op.list_subgradient_choices([np.zeros(x.shape)], x)
    assert choices is not None
    np.testing.assert_array_equal(choices.output_indices, [1, 1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(choices.entry_elements, [0, 1, 0, 1, 0, 1, 3])


@pytest.mark.parametrize("seed", range(5))
def test_every_element_of_a_row_may_reach_every_result(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 9, (2, 3, 4)).astype(float)
    op = OrderedSelection(dim=1, order=FirstRanks(dim=1, k=3))
    reached = op.propagate_dependencies([labels], generator.normal(size=(1, 3, 4)))
    np.testing.assert_array_equal(reached, np.repeat(labels.min(axis=2, keepdims=True), 3, axis=2))
