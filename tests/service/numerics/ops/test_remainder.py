import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY


@pytest.mark.parametrize(("name", "divisions"), [("remainder", [3, -4, -4, 3]), ("fmod", [3, -3, -3, 3])])
def test_remainders_have_the_sign_of_their_kind(name: str, divisions: list[float]) -> None:
    a, b = np.array([[7.5, -6.5, 7.5, -6.5]]), np.array([[2.0, 2.0, -2.0, -2.0]])
    op = OP_REGISTRY[name]()
    y = op.forward(a, b)
    np.testing.assert_array_equal(y, a - b * divisions)
    by_a, by_b = op.backward(np.ones_like(y), y, a, b)
    np.testing.assert_array_equal(by_a, 1)
    np.testing.assert_array_equal(by_b, -np.array([divisions]))


def test_number_of_divisions_is_exact_where_the_quotient_rounds() -> None:
    """1 / 0.1 rounds to 10, though ten times the number 0.1 is more than 1."""
    a, b = np.array([[1.0]]), np.array([[0.1]])
    for name in ("remainder", "fmod"):
        assert OP_REGISTRY[name]().select_branch(a, b) == 9
