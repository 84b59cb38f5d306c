import numpy as np
import pytest

from service.numerics.blackbox import neville

NODES = np.array([1.0, 0.5, 0.2, 0.1])


@pytest.mark.parametrize("per_line", [False, True])
def test_an_entry_of_column_k_is_exact_for_polynomials_of_degree_k(per_line):
    coefficients = np.array([[3.0, -1.0, 2.0, 5.0], [1.0, 4.0, -2.0, 0.5]])
    nodes = np.array([NODES, NODES * 0.9]) if per_line else NODES
    for degree in range(4):
        powers = nodes[..., None] ** np.arange(degree + 1)
        quotients = (powers * coefficients[:, None, : degree + 1]).sum(axis=2)
        values, _ = neville.build_table(quotients, nodes)
        for (row, column), entry in values.items():
            is_exact = np.allclose(entry, coefficients[:, 0], rtol=1e-12)
            assert is_exact == (column >= degree), (row, column, degree)


@pytest.mark.parametrize("nodes", [NODES, np.array([NODES, NODES * 0.9])])
def test_an_entry_is_the_sum_of_the_quotients_by_its_weights(nodes):
    quotients = np.random.default_rng(0).normal(size=(2, 4))
    values, weights = neville.build_table(quotients, nodes)
    for position, entry in values.items():
        np.testing.assert_allclose((quotients * weights[position]).sum(axis=1), entry, rtol=1e-12, atol=1e-12)


def test_the_entry_with_the_smallest_bound_is_chosen_and_a_finer_one_that_contradicts_raises_it():
    rows, values = np.array([0, 1]), np.array([[1.0, 1.0], [1.5, 1.5]])
    chosen, bound = neville.choose_best_entries(rows, values, np.array([[0.1, 0.5], [0.2, 0.6]]))
    assert chosen.tolist() == [0, 0]
    np.testing.assert_allclose(bound, [0.7, 0.5])


@pytest.mark.parametrize(("away", "stays"), [(0.0, False), (0.4, False), (1.1, True)])
def test_contradicting_finer_quotients_are_reported(away, stays):
    """An error of 1 may fall to 4 times a quarter of it over a fall of 1/4."""
    quotients, fall, noise = np.array([[1.0, away]]), np.array([0.25]), np.zeros((1, 2))
    entry, row = np.zeros((1, 1)), np.array([0])
    distance = neville.measure_disagreement_with_finer(row, entry, np.zeros((1, 1)), quotients, fall, noise)
    assert distance.tolist() == [[away if stays else 0.0]]
    assert neville.find_contested(np.zeros(1), row, quotients, fall, noise).tolist() == [away > 0.5]
