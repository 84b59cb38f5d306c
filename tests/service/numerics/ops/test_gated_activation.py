import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

A, B = np.array([[-1.5, 0.0, 2.0]]), np.array([[3.0, 5.0, -0.5]])
SIGMOID = 1 / (1 + np.exp(-A))


@pytest.mark.parametrize("inputs", [(A, B), (np.concatenate([A, B], axis=-1),)])
def test_swiglu_is_silu_of_the_gate_times_the_value(inputs) -> None:
    y, gradients = evaluate("swiglu", *inputs)
    np.testing.assert_allclose(y, A * SIGMOID * B, rtol=1e-14)
    by_gate = B * SIGMOID * (1 + A * (1 - SIGMOID))
    np.testing.assert_allclose(
        np.concatenate(gradients, axis=-1), np.concatenate([by_gate, A * SIGMOID], -1), rtol=1e-14
    )


def test_geglu_takes_both_forms_of_gelu() -> None:
    from scipy.stats import norm

    y, (by_gate, by_value) = evaluate("geglu", A, B)
    np.testing.assert_allclose(y, A * norm.cdf(A) * B, rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(by_gate, B * (norm.cdf(A) + A * norm.pdf(A)), rtol=1e-14)
    np.testing.assert_allclose(by_value, A * norm.cdf(A), rtol=1e-14)
    inner = np.tanh(np.sqrt(2 / np.pi) * (A + 0.044715 * A**3))
    np.testing.assert_allclose(evaluate("geglu", A, B, approximate="tanh")[0], A * (1 + inner) / 2 * B, rtol=1e-14)


@pytest.mark.parametrize("name", ["swiglu", "geglu"])
@pytest.mark.parametrize(
    ("shapes", "words"),
    [(((3,), None), "even length"), (((), None), "even length"), (((2, 4), (4,)), "of one shape")],
)
def test_gates_refuse_by_name(name, shapes, words) -> None:
    assert words in get_refusal(name, {}, *shapes)
