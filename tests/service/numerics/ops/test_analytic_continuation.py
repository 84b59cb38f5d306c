import numpy as np
import pytest

from service.numerics.ops import analytic_continuation

REAL = np.array([[-3.5, -1e-12, 1e-300, 0.25, 7.0]])
OFF = 1e-16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_real_arrays_use_the_function_of_numpy(dtype):
    x = REAL.astype(dtype)
    np.testing.assert_array_equal(analytic_continuation.take_absolute_value(x), np.abs(x))
    np.testing.assert_array_equal(analytic_continuation.take_largest_real_part(x, 1), x.max(axis=1, keepdims=True))
    np.testing.assert_array_equal(analytic_continuation.log1p(x[:, 1:]), np.log1p(x[:, 1:]))
    np.testing.assert_array_equal(
        analytic_continuation.raise_to_power(x[:, [0, 3, 4]], 3.0), np.power(x[:, [0, 3, 4]], 3.0)
    )
    assert {
        analytic_continuation.take_absolute_value(x).dtype,
        analytic_continuation.take_largest_real_part(x, 1).dtype,
        analytic_continuation.log1p(x[:, 1:]).dtype,
    } == {x.dtype}


def test_an_absolute_value_is_a_new_array():
    """Who asks for it goes on in place."""
    for x in (np.abs(REAL), np.abs(REAL) + 0j):
        assert not np.shares_memory(analytic_continuation.take_absolute_value(x), x)


def test_absolute_goes_by_the_real_part():
    values = analytic_continuation.take_absolute_value(REAL + 1j * OFF)
    np.testing.assert_array_equal(values.real, np.abs(REAL))
    np.testing.assert_array_equal(values.imag, np.sign(REAL) * OFF)


def test_largest_element_is_chosen_by_real_part():
    x = np.array([[[1 + 9j, 2 - 1j], [0 + 7j, 5 + 0j]]])
    np.testing.assert_array_equal(analytic_continuation.take_largest_real_part(x, (1, 2)), [[[5.0]]])
    assert analytic_continuation.take_largest_real_part(x, 2).dtype == np.float64


@pytest.mark.parametrize("x", [1e-20, -1e-20, 1e-8, -0.5, 3.0, 1e10, 1e150])
def test_log1p_keeps_both_parts(x):
    z = np.array([x + 1j * OFF])
    assert analytic_continuation.log1p(z).real == pytest.approx(np.log1p(x), rel=1e-15)
    assert analytic_continuation.log1p(z).imag / OFF == pytest.approx(1 / (1 + x), rel=1e-15)
    np.testing.assert_allclose(analytic_continuation.log1p(np.array([0.3 - 2j])), np.log(1.3 - 2j), rtol=1e-15)


def test_log1p_of_numpy_is_wrong_for_a_complex_step():
    assert np.log1p(np.array([1e-20 + 1j * OFF])).real == 0


@pytest.mark.parametrize("exponent", [2.0, 3, -1.0, 101.0, 150, -120.0])
@pytest.mark.parametrize("x", [-1.1, 1.1])
def test_a_whole_power_is_one_of_negative_numbers_too(x, exponent):
    powers = analytic_continuation.raise_to_power(np.array([x + 1j * OFF]), exponent)
    assert powers.real == pytest.approx(x**exponent, rel=1e-13)
    assert powers.imag / OFF == pytest.approx(exponent * x ** (exponent - 1), rel=1e-13)


def test_power_of_numpy_is_wrong_for_a_complex_step():
    wrong = np.power(np.array([-1.1 + 1j * OFF]), 101.0).imag / OFF
    assert abs(wrong / (101 * 1.1**100) - 1) > 1e-3


def test_fractional_power_is_the_principal_one():
    np.testing.assert_array_equal(
        analytic_continuation.raise_to_power(np.array([2 + 1j]), 0.5), np.power(np.array([2 + 1j]), 0.5)
    )
