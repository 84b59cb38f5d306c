"""Floats of 8 bits, against those of PyTorch."""

import numpy as np
import pytest
import torch

from schemas.float8 import E4M3, E5M2

FORMATS = {"E4M3": (E4M3, torch.float8_e4m3fn), "E5M2": (E5M2, torch.float8_e5m2)}


@pytest.mark.parametrize(("ours", "theirs"), FORMATS.values(), ids=FORMATS)
def test_every_byte_is_the_number_of_pytorch(ours, theirs):
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(codes).view(theirs).float().numpy()
    np.testing.assert_array_equal(ours.decode(codes), expected)
    known = np.isfinite(expected)
    np.testing.assert_array_equal(ours.encode(expected)[known], codes[known])


@pytest.mark.parametrize(("ours", "theirs"), FORMATS.values(), ids=FORMATS)
def test_numbers_round_to_the_nearest_one_ties_to_even(ours, theirs):
    finite = ours.numbers[np.isfinite(ours.numbers)].astype(np.float64)
    ladder = np.unique(finite)
    middles = (ladder[1:] + ladder[:-1]) / 2
    random = np.random.default_rng(0).normal(size=2000) * np.exp(np.random.default_rng(1).uniform(-12, 6, 2000))
    random = random[np.abs(random) <= ladder[-1]]
    values = np.concatenate([middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf), random])
    expected = torch.from_numpy(values).to(theirs).double().numpy()
    # PyTorch rounds to float32 first: so are the values that it gets.
    exact = values.astype(np.float32).astype(np.float64) == values
    np.testing.assert_array_equal(ours.round_to_nearest(values)[exact].astype(np.float64), expected[exact])
    distances = np.abs(ladder[:, None] - values).min(axis=0)
    np.testing.assert_array_equal(np.abs(ours.round_to_nearest(values) - values), distances)


@pytest.mark.parametrize(("ours", "theirs"), FORMATS.values(), ids=FORMATS)
def test_what_is_too_large_is_not_finite(ours, theirs):
    largest = float(ours.numbers[np.isfinite(ours.numbers)].max())
    rounded = ours.round_to_nearest(np.array([largest, -largest, 4 * largest, -4 * largest, np.nan, np.inf]))
    assert rounded[:2].tolist() == [largest, -largest]
    assert not np.isfinite(rounded[2:]).any()
    assert np.isnan(rounded[4])
    assert bool(np.isinf(rounded[2])) is ours.has_infinity
