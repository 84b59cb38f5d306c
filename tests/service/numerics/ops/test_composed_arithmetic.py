import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_values_are_those_of_numpy() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 3, 4)), generator.normal(size=(3, 2))
    np.testing.assert_array_equal(evaluate("kron", a, b)[0], np.kron(a, b))
    u, v = generator.normal(size=(2, 5, 3))
    np.testing.assert_allclose(evaluate("cross", u, v)[0], np.cross(u, v), rtol=1e-12)
    np.testing.assert_allclose(
        evaluate("tensordot", a, b, dims=[[1], [0]])[0], np.tensordot(a, b, ([1], [0])), rtol=1e-12, atol=1e-14
    )
    w = generator.normal(size=(2, 3, 3))
    np.testing.assert_allclose(
        evaluate("bilinear", u, v, w)[0], np.einsum("ni,oij,nj->no", u, w, v), rtol=1e-12, atol=1e-14
    )


def test_gradients_by_hand() -> None:
    np.testing.assert_array_equal(evaluate("addcmul", 1.0, 2.0, 3.0, value=0.5)[1], [1, 1.5, 1])
    np.testing.assert_array_equal(evaluate("addcdiv", 1.0, 2.0, 4.0, value=2.0)[1], [1, 0.5, -0.25])
    np.testing.assert_array_equal(evaluate("rsub", 5.0, 1.0, alpha=3.0)[1], [-3, 1])


def test_distance_of_a_vector_from_itself_has_no_gradient() -> None:
    y, (by_x1, by_x2) = evaluate("cdist", [[0.0, 0.0], [3.0, 4.0]], [[0.0, 0.0]])
    np.testing.assert_array_equal(y, [[0], [5]])
    np.testing.assert_allclose(by_x1, [[0, 0], [0.6, 0.8]], rtol=1e-15)
    np.testing.assert_allclose(by_x2, [[-0.6, -0.8]], rtol=1e-15)


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("cross", {}, ((2, 3), (2, 2)), "of length 3"),
        ("cross", {}, ((), ()), "of length 3"),
        ("tensordot", {}, ((3,), (3,)), "2 axes or more"),
        ("tensordot", {"dims": [[0], []]}, ((3,), (3,)), "as many different axes"),
        ("tensordot", {"dims": 1}, ((3,), (2,)), "equal lengths"),
        ("bilinear", {}, ((2,), (3,), (2, 3, 3), None), "(out, I, J)"),
        ("bilinear", {}, ((2,), (3,), (2, 2, 3), (3,)), "a bias of shape [2]"),
        ("cdist", {}, ((2, 3), (2, 2)), "vectors of one length"),
    ],
)
def test_compositions_refuse_by_name(name, attributes, shapes, words) -> None:
    assert words in get_refusal(name, attributes, *shapes)
