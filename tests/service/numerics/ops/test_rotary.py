import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.random.default_rng(0).normal(size=(3, 6))
ANGLES = np.random.default_rng(1).uniform(-3, 3, (3, 3))
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)


def rotate(x: np.ndarray, angles: np.ndarray, first: slice, second: slice) -> np.ndarray:
    """Rotate pairs as complex numbers."""
    pairs = (x[..., first] + 1j * x[..., second]) * np.exp(1j * angles)
    y = x.copy()
    y[..., first], y[..., second] = pairs.real, pairs.imag
    return y


LAYOUTS = {False: (slice(0, 3), slice(3, 6)), True: (slice(0, 6, 2), slice(1, 6, 2))}


@pytest.mark.parametrize("interleaved", [False, True])
def test_pairs_are_turned_as_complex_numbers(interleaved) -> None:
    y, (by_x, *_) = evaluate("rotary_embedding", X, COS, SIN, interleaved=interleaved)
    np.testing.assert_allclose(y, rotate(X, ANGLES, *LAYOUTS[interleaved]), rtol=1e-14)
    # A rotation back is the transpose.
    np.testing.assert_allclose(by_x, rotate(np.ones_like(X), -ANGLES, *LAYOUTS[interleaved]), rtol=1e-13)


@pytest.mark.parametrize("interleaved", [False, True])
def test_one_angle_for_each_element_is_that_of_its_pair(interleaved) -> None:
    whole = [np.repeat(part, 2, -1) if interleaved else np.concatenate([part, part], -1) for part in (COS, SIN)]
    expected, (_, by_cos, by_sin) = evaluate("rotary_embedding", X, COS, SIN, interleaved=interleaved)
    y, (_, by_whole_cos, by_whole_sin) = evaluate("rotary_embedding", X, *whole, interleaved=interleaved)
    np.testing.assert_array_equal(y, expected)
    first, second = LAYOUTS[interleaved]
    np.testing.assert_allclose(by_whole_cos[:, first] + by_whole_cos[:, second], by_cos, rtol=1e-14)
    np.testing.assert_allclose(by_whole_sin[:, first] + by_whole_sin[:, second], by_sin, rtol=1e-14)


def test_shorter_angles_turn_the_first_elements_alone() -> None:
    y, (by_x, *_) = evaluate("rotary_embedding", X, COS[:, :2], SIN[:, :2])
    np.testing.assert_allclose(y[:, :4], rotate(X[:, :4], ANGLES[:, :2], slice(0, 2), slice(2, 4)), rtol=1e-14)
    np.testing.assert_array_equal(y[:, 4:], X[:, 4:])
    np.testing.assert_array_equal(by_x[:, 4:], 1)
    # Four numbers are those of four elements if rotary_dim says so, and of two pairs' halves otherwise.
    whole = [np.concatenate([part[:, :2]] * 2, -1) for part in (COS, SIN)]
    np.testing.assert_array_equal(evaluate("rotary_embedding", X, *whole, rotary_dim=4)[0], y)


def test_interleaved_layout_is_another_function() -> None:
    plain, paired = (evaluate("rotary_embedding", X, COS, SIN, interleaved=flag)[0] for flag in (False, True))
    assert np.abs(plain - paired).max() > 0.1


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((3, 6), (3, 3), (3, 2)), "of one shape"),
        ({}, ((), (), ()), "of one shape"),
        ({}, ((3, 6), (3, 4), (3, 4)), "from 2 to D = 6"),
        ({}, ((3, 5), (3, 5), (3, 5)), "R even"),
        ({}, ((3, 6), (3, 0), (3, 0)), "from 2 to D = 6"),
        ({"rotary_dim": 4}, ((3, 6), (3, 3), (3, 3)), "rotary_dim is 4"),
        ({}, ((3, 6), (2, 3), (2, 3)), "broadcast to [3]"),
    ],
)
def test_rotary_embedding_refuses_by_name(attributes, shapes, words) -> None:
    assert words in get_refusal("rotary_embedding", attributes, *shapes)
