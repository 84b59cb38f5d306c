"""A tenth of `make few` on fixed seeds: no right gradient fails, and misses are as rare as reports state."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.few_evaluations import MissCounts, count_cell, find_differences
from benchmarks.few_trials import CELLS, Cell, draw_trial, first_look
from gradcheckd import Service
from service.numerics.verdict.outcome import Outcome

pytestmark = pytest.mark.no_cover

TRIALS = 100
LEAST_TAIL = 1e-5
"""Of 112 counts, of which each is rejected where as many misses are rarer than this."""
LEAST_PASSES = {"logarithms": 0.6, "relu network": 0.85, "abs network": 0.85}
KINKED = CELLS.index(Cell("relu network", "FP64", has_outputs=False))


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_no_right_gradient_fails_and_misses_are_as_rare_as_stated(cell):
    counts = count_cell(cell, range(TRIALS))
    assert counts.outcomes["FAIL"] == 0
    assert counts.outcomes["PASS"] >= LEAST_PASSES.get(cell.family, 0.98) * TRIALS
    if cell.datatype == "FP64":
        assert counts.first_passes >= LEAST_PASSES.get(cell.family, 0.98) * TRIALS
    for kind, misses in counts.misses.items():
        assert misses.trials > 0.3 * TRIALS, kind
        assert misses.tail_probability > LEAST_TAIL, kind


def test_more_misses_than_stated_are_seen():
    assert MissCounts(1000, 2.0, 14).tail_probability < LEAST_TAIL < MissCounts(1000, 2.0, 6).tail_probability
    assert MissCounts(1000, 0.0, 1).tail_probability == 0
    assert MissCounts(1000, 0.0, 0).tail_probability == 1


def test_a_second_look_that_forgets_the_first_would_miss_more_than_stated(monkeypatch):
    """Beside kinks the larger steps of the whole have wide bounds."""
    trials = [draw_trial(CELLS[KINKED], seed) for seed in range(2 * TRIALS)]
    rights = [trial.run(trial.gradient) for trial in trials]
    pairs = [(trial, right) for trial, right in zip(trials, rights, strict=True) if right.is_first]
    wrongs = [(trial, trial.plant_error("norm", right.limit.relative_l2)) for trial, right in pairs]
    stated = sum(right.limit.probability for _, right in pairs)
    assert sum(trial.passes(wrong) for trial, wrong in wrongs) <= 2
    monkeypatch.setattr(first_look, "suffices", lambda *_: False)
    monkeypatch.setattr(first_look, "combine_looks", lambda judgement, *_: judgement)
    missed = sum(trial.run(wrong).outcome == Outcome.PASS for trial, wrong in wrongs)
    assert MissCounts(len(wrongs), stated, missed).tail_probability < LEAST_TAIL


@pytest.mark.parametrize(("cell", "seed"), [*((cell, 0) for cell in CELLS[::5]), (CELLS[KINKED], 10), (CELLS[11], 7)])
def test_a_trial_agrees_with_the_service(cell, seed):
    """Of the last two the whole alone would pass the wrong gradient."""
    with Service() as service:
        trial = draw_trial(cell, seed)
        assert find_differences(service, trial) == []
        # Without the least digits the losses have noise, and other bounds.
        other = replace(trial, values=trial.values.astype(np.float16).astype(float))
        assert all(str(cell) in line for line in find_differences(service, other)) != []
