import hashlib
import math

import numpy as np
import pytest

from service.numerics.blackbox.random_numbers import (
    MAX_DEVIATIONS,
    choose_elements,
    draw_cotangents,
    draw_integers,
    draw_numbers,
    draw_words,
)

MASK = 2**64 - 1


def compute_word(key, number):
    """Return a word of SplitMix64 in the integers of Python, as its authors publish it."""
    word = (key + (number + 1) * 0x9E3779B97F4A7C15) & MASK
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & MASK
    return word ^ (word >> 31)


def test_the_generator_is_splitmix64():
    """The first outputs for the seed 1234567, as Rosetta Code lists them."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [compute_word(1234567, number) for number in range(4)] == published


def test_words_follow_from_seed_purpose_name_and_number():
    key = int.from_bytes(hashlib.sha256("7/near/é".encode()).digest()[:8], "little")
    expected = [compute_word(key, number) for number in range(3, 9)]
    assert draw_words(7, "near", "é", 3, 6).tolist() == expected
    for other in ((8, "near", "é"), (7, "direction", "é"), (7, "near", "e")):
        assert not set(expected) & set(draw_words(*other, 3, 6).tolist())


def test_numbers_are_odd_integers_of_23_bits_and_never_0():
    integers = draw_integers(0, "direction", "w", 0, 100_000)
    assert (integers % 2 == 1).all()
    assert np.abs(integers).max() < 2**23
    numbers = draw_numbers(0, "direction", "w", 0, 100_000)
    assert (numbers == integers / 2**21).all()
    assert (numbers.astype(np.float32) == numbers).all()
    assert np.abs(numbers).max() < MAX_DEVIATIONS


@pytest.mark.parametrize("seed", range(4))
def test_numbers_have_the_moments_and_the_quantiles_of_a_sum_of_three_uniform_ones(seed):
    count = 400_000
    numbers = draw_numbers(seed, "direction", "w", 0, count)
    deviation = 1 / math.sqrt(count)
    assert abs(numbers.mean()) < 5 * deviation
    assert abs(np.square(numbers).mean() - 1) < 5 * math.sqrt(1.6) * deviation
    assert abs((numbers**3).mean()) < 5 * 3.2 * deviation
    assert abs((numbers**4).mean() - 2.6) < 5 * 5 * deviation
    for limit, probability in ((0.5, (1.5 - 0.125 / 3) / 4), (1.0, 2 / 3), (2.0, 1 - 1 / 24)):
        assert abs((np.abs(numbers) <= limit).mean() - probability) < 2.5 * deviation


def test_neighbouring_numbers_names_and_directions_are_uncorrelated():
    count = 200_000
    numbers = draw_numbers(0, "direction", "w", 0, count)
    others = [numbers[lag:] for lag in (1, 2, 3, 64)]
    others += [draw_numbers(*stream, 0, count) for stream in ((1, "direction", "w"), (0, "near", "w"))]
    for other in others:
        assert abs((numbers[: len(other)] * other).mean()) < 5 / math.sqrt(len(other))


def test_cotangents_keep_8_significant_bits_of_the_integers():
    integers, cotangents = draw_integers(3, "cotangent", "y", 0, 50_000), draw_cotangents(3, "y", 50_000)
    for integer, cotangent in zip(integers.tolist(), cotangents.tolist(), strict=True):
        size = max(abs(integer), 128)
        dropped = max(size.bit_length() - 8, 0)
        assert cotangent == math.copysign((size >> dropped << dropped) / 2**21, integer)


def test_every_set_of_elements_is_chosen_as_often():
    trials, counts = 6000, {}
    for seed in range(trials):
        chosen = tuple(choose_elements(seed, "w", 4, 2).tolist())
        assert chosen[0] < chosen[1]
        counts[chosen] = counts.get(chosen, 0) + 1
    assert len(counts) == 6
    assert sum((count - trials / 6) ** 2 / (trials / 6) for count in counts.values()) < 25, "chi squared, 5 degrees"


def test_all_elements_are_chosen_in_order():
    assert choose_elements(0, "w", 5, 5).tolist() == [0, 1, 2, 3, 4]
