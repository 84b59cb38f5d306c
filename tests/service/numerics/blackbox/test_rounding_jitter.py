"""A loss jitters where large terms cancel, and not where one rounding hides a smooth function."""

import numpy as np
import pytest

from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.blackbox.noise import estimate_noise, find_loss_format
from service.numerics.blackbox.rounding_jitter import has_rounding_jitter
from tests.service.numerics.blackbox.smooth_losses import make_point


def compute_softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


CANCELLING = {
    "a softmax": lambda z: compute_softmax(z).sum(axis=-1),
    "a norm": lambda z: np.sqrt(np.square(z / np.sqrt(np.square(z).sum(axis=-1, keepdims=True))).sum(axis=-1)),
}
HIDDEN = {
    "a sine": lambda z: np.sin(z).sum(axis=-1),
    "a square": lambda z: np.square(z).sum(axis=-1),
    "an exponential": lambda z: np.exp(z).sum(axis=-1),
}


def find_jitter(loss, n, datatype="FP64", *, random=False, seed=0, missing=(), repeats=0.0, tensors=1):
    dtype = np.float32 if datatype == "FP32" else np.float64
    generator = np.random.default_rng(seed)
    points = {f"w{number}": make_point(generator.normal(size=n), datatype, random=random) for number in range(tensors)}
    layout = lay_out_evaluations(points, random=random, count=None, seed=seed)
    losses = loss(*[layout.stack_points(name).astype(dtype) for name in points]).astype(float)
    losses[1] += repeats
    losses[list(missing)] = np.nan
    near = layout.select_near_losses("w0", losses)
    noise = estimate_noise(losses[:3], np.nan_to_num(near, nan=losses[0]), find_loss_format(losses))
    return bool(has_rounding_jitter(layout, "w0", near, layout.select_tensor_losses("w0", losses), noise))


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize("loss", CANCELLING.values(), ids=CANCELLING)
def test_a_loss_of_terms_that_cancel_jitters(loss, datatype, random):
    found = [find_jitter(loss, 12, datatype, random=random, seed=seed) for seed in range(10)]
    assert sum(found) >= 9


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(
    ("datatype", "offsets"), [("FP64", 10.0 ** np.arange(8, 17)), ("FP32", 10.0 ** np.arange(2, 9))]
)
@pytest.mark.parametrize("loss", HIDDEN.values(), ids=HIDDEN)
def test_a_smooth_loss_beside_a_constant_does_not(loss, datatype, offsets, random):
    for offset in offsets:
        for seed in range(4):
            assert not find_jitter(lambda z, c=offset: z.dtype.type(c) + loss(z), 5, datatype, random=random, seed=seed)


def test_only_what_the_tensor_itself_moves_counts():
    """Of two tensors, one jitters."""
    for seed in range(4):
        assert not find_jitter(
            lambda w, z: 1e14 * (compute_softmax(z).sum(axis=-1) + 1) + np.sin(w).sum(axis=-1), 12, seed=seed, tensors=2
        )
    assert find_jitter(lambda w, z: compute_softmax(w).sum(axis=-1) + 0 * z.sum(axis=-1), 12, tensors=2)


def test_many_tensors_share_near_points_and_jitter_by_their_lines():
    assert find_jitter(lambda w, *_: compute_softmax(w).sum(axis=-1), 12, tensors=20)
    assert not find_jitter(lambda w, *_: 1e14 + np.sin(w).sum(axis=-1), 12, tensors=20)


def test_noise_that_changes_by_itself_is_no_jitter():
    loss = CANCELLING["a softmax"]
    assert find_jitter(loss, 12)
    assert not find_jitter(loss, 12, repeats=2.0**-50)


def test_missing_values_are_passed_over():
    assert find_jitter(CANCELLING["a softmax"], 12, missing=range(11, 19))
    assert not find_jitter(CANCELLING["a softmax"], 12, missing=range(3, 187))


def test_noise_of_more_than_some_roundings_is_no_jitter():
    assert not find_jitter(lambda z: compute_softmax(z).sum(axis=-1) - 1 + 1e-3, 12)
