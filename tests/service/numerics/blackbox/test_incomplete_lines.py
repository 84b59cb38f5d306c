import numpy as np

from service.numerics.blackbox.incomplete_lines import estimate_partial_noise, find_longest_finite_runs
from service.numerics.blackbox.noise import find_loss_format

NAN = np.nan


def test_the_longest_run_of_values_is_taken_where_it_is_long_enough():
    lines = np.array([[1.0, 2, NAN, 3, 4, 5, 6, 7], [1, 2, 3, NAN, 5, 6, 7, NAN], np.arange(8.0), np.full(8, NAN)])
    assert [run.tolist() for run in find_longest_finite_runs(lines)] == [[3, 4, 5, 6, 7], list(range(8))]


def test_a_line_that_ends_at_an_edge_does_not_count_beside_a_whole_one():
    ending, whole = np.array([1.0, 2, 4, 8, 16, NAN, NAN, NAN]), np.arange(8.0)
    assert [each.tolist() for each in find_longest_finite_runs(np.stack([ending, whole]))] == [whole.tolist()]
    alone = find_longest_finite_runs(np.stack([ending, np.full(8, NAN)]))
    assert [each.tolist() for each in alone] == [[1, 2, 4, 8, 16]], "but where there is no other"


def test_noise_follows_from_what_is_known():
    generator = np.random.default_rng(0)
    lines = 1 + generator.normal(size=(2, 8)) * 1e-6
    lines[0, 0] = lines[1, 7] = NAN
    noise = estimate_partial_noise(np.ones(3), lines, find_loss_format(lines[np.isfinite(lines)]))
    assert 3e-7 < noise.deviation < 3e-6


def test_noise_without_known_losses_is_infinite():
    lines = np.full((2, 8), NAN)
    noise = estimate_partial_noise(np.ones(3), lines, find_loss_format(np.ones(5)))
    assert noise.largest_deviation == np.inf
    assert np.isnan(noise.deviation)
    assert noise.is_deterministic
