import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

EXACT = {
    "tan": (mpmath.tan, lambda x: mpmath.sec(x) ** 2, [-1.5, -1e-8, 1e-300, 0.7, 1.57, 40.0]),
    "asin": (mpmath.asin, lambda x: 1 / mpmath.sqrt(1 - x * x), [-0.999999999, -0.5, 1e-300, 1e-8, 1 - 2.0**-53]),
    "acos": (mpmath.acos, lambda x: -1 / mpmath.sqrt(1 - x * x), [-0.999999999, -0.5, 1e-300, 1e-8, 1 - 2.0**-53]),
    "atan": (mpmath.atan, lambda x: 1 / (1 + x * x), [-1e8, -1.0, 1e-300, 1e-8, 3.0, 1e100]),
    "deg2rad": (mpmath.radians, lambda x: mpmath.pi / 180, [-720.0, 1e-300, 1.0, 1e10]),
    "rad2deg": (mpmath.degrees, lambda x: 180 / mpmath.pi, [-7.0, 1e-300, 1.0, 1e10]),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    assert_values_and_slopes(name, EXACT[name])


def test_sinc_and_its_slope_keep_their_digits_near_0() -> None:
    def sinc(x):
        return mpmath.sinc(mpmath.pi * x)

    def slope(x):
        z = mpmath.pi * x
        return (mpmath.cos(z) - mpmath.sinc(z)) / x if x else mpmath.mpf(0)

    near = [0.0, -1e-8, 1e-3, 0.1, 0.25, 0.26, -0.4]
    assert_values_and_slopes("sinc", (sinc, slope, near))
    far = np.array([1.5, -3.3, 17.2])
    with mpmath.workdps(60):
        slopes = [float(slope(mpmath.mpf(point))) for point in far]
    np.testing.assert_allclose(OP_REGISTRY["sinc"]().backward(np.ones(3), np.sinc(far), far)[0], slopes, rtol=1e-13)


def test_beyond_its_domain_an_inverse_is_not_a_number() -> None:
    x = np.array([-1.5, 2.0])
    with np.errstate(invalid="ignore"):
        for name in ("asin", "acos"):
            op = OP_REGISTRY[name]()
            assert np.isnan(op.forward(x)).all()
            assert np.isnan(op.backward(np.ones(2), op.forward(x), x)[0]).all()
