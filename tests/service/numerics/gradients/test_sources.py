import numpy as np
import pytest

from service.numerics.core.precision import DTYPES
from service.numerics.gradients.sources import ANALYTIC, AUTOGRAD, DIFFERENCE, GRADIENT_SOURCES
from tests.solved_problems import solve_preset


def test_the_finite_difference_is_no_source_of_this_registry():
    assert list(GRADIENT_SOURCES) == [ANALYTIC, AUTOGRAD]
    assert DIFFERENCE not in GRADIENT_SOURCES


@pytest.mark.parametrize("source", GRADIENT_SOURCES)
@pytest.mark.parametrize("dtype", [None, "float64"])
def test_every_source_computes_the_requested_gradients(source, dtype):
    problem = solve_preset("logistic_regression").problem
    result = GRADIENT_SOURCES[source].differentiate(
        problem.graph, problem.float64_leaves, ["w"], None if dtype is None else DTYPES[dtype]
    )
    expected = solve_preset("logistic_regression").get_gradient("w")
    np.testing.assert_allclose(result.gradients["w"], expected, rtol=1e-12)
