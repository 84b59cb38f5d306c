import mpmath
import pytest

from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

EXACT = {
    "sinh": (mpmath.sinh, mpmath.cosh, [-700.0, -1.0, 1e-300, 1e-8, 3.0]),
    "cosh": (mpmath.cosh, mpmath.sinh, [-700.0, -1.0, 1e-300, 1e-8, 3.0]),
    "asinh": (mpmath.asinh, lambda x: 1 / mpmath.sqrt(1 + x * x), [-1e200, -1.0, 1e-300, 1e-8, 3.0]),
    "acosh": (mpmath.acosh, lambda x: 1 / mpmath.sqrt(x * x - 1), [1 + 2.0**-40, 1.001, 1.5, 1e8, 1e200]),
    "atanh": (mpmath.atanh, lambda x: 1 / (1 - x * x), [-1 + 2.0**-50, -0.5, 1e-300, 1e-8, 0.999]),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    assert_values_and_slopes(name, EXACT[name])
