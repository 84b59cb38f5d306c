"""Medians of contenders that take turns, so that a noisy machine disturbs all of them alike.

Seconds are those in which this process ran. By the clock, what others take would fall upon the long turns alone: of
many short ones most are never interrupted, and their median would know nothing of it.
"""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_CPU_SECONDS = 60.0
"""Seconds of processor time within which a contender has to end."""
LONG_RUN_SECONDS = 5.0
"""Seconds from which on the first run stands as it is: it is not worth repeating, and warming up is nothing beside."""
COLD_RUN_SECONDS = 1.0
"""Seconds beside which what only the first run pays for is little."""


class TimeLimitError(Exception):
    """It did not end within the limit."""


@dataclass
class Contender:
    """What takes part.

    Attributes
    ----------
    turn
        Runs once; the seconds that it took, by row of the table.
    finish
        Checks what the last turn found; all that is to be recorded beside the seconds.
    """

    run_turn: Callable[[], Mapping[str, float]]
    finish: Callable[[], Mapping[str, Any]]
    samples: list[Mapping[str, float]] = field(default_factory=list)
    repeats: int = 0

    @property
    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Figures of each row."""
        result = self.finish()
        for row in self.samples[0]:
            low, median, high = np.quantile([sample[row] for sample in self.samples], [0.25, 0.5, 0.75])
            quartiles = [round_significant(low), round_significant(high)]
            yield (
                row,
                {"seconds": round_significant(median), "quartiles": quartiles, "turns": len(self.samples), **result},
            )


@dataclass(frozen=True)
class MeasuringBudget:
    """How long to measure.

    Attributes
    ----------
    seconds
        For one contender.
    least, most
        Turns, however long or short they are.
    """

    seconds: float = 8.0
    min_repeats: int = 5
    max_repeats: int = 200


QUICK_BUDGET = MeasuringBudget(1.0, 3, 20)


def round_significant(number: float) -> float:
    """Four digits; more would be noise."""
    return float(f"{number:.4g}")


def measure_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what it returned."""
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def make_process_contender(
    name: str, run: Callable[[], Any], describe: Callable[[Any], Mapping[str, Any]] = lambda _: {}
) -> Contender:
    """A contender of one row: processor time of each turn, and what `describe` records of its last result."""
    last: list[Any] = [None]

    def turn() -> Mapping[str, float]:
        seconds, last[0] = measure_seconds(run)
        return {name: seconds}

    return Contender(turn, lambda: describe(last[0]))


def measure_cpu_share(run: Callable[[], Any]) -> tuple[float, Any]:
    """Part of the time by the clock in which this process ran, and what was returned."""
    started = time.perf_counter()
    seconds, result = measure_seconds(run)
    return min(1.0, seconds / (time.perf_counter() - started)), result


@contextmanager
def limit_cpu_seconds(seconds: float) -> Iterator[None]:
    """Raise where the inside takes more processor time; looked at by the clock, between two steps of the interpreter.

    A timer of processor time would do without looking, but while one runs Linux counts that time in ticks of 4 ms.
    """
    started = time.process_time()

    def look(*_: object) -> None:
        if time.process_time() - started > seconds:
            raise TimeLimitError

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, min(seconds, 1.0), min(seconds, 1.0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def warm_up(contender: Contender, patience: MeasuringBudget) -> None:
    """Run it, and plan its turns; one that takes long has had its only turn.

    Raises
    ------
    OutOfTimeError
        If it takes longer than the limit.
    """
    # The first run of all also pays for what is imported or built at the first call.
    for _ in range(2):
        with limit_cpu_seconds(MAX_CPU_SECONDS):
            seconds, sample = measure_seconds(contender.run_turn)
        if seconds > LONG_RUN_SECONDS:
            contender.samples.append(sample)
            return
        if seconds > COLD_RUN_SECONDS:
            break
    contender.repeats = int(min(max(patience.seconds / seconds, patience.min_repeats), patience.max_repeats))


def run_in_turns(contenders: list[Contender]) -> None:
    """Let each have its turns, those of few turns spread among those of many."""
    rounds = max((contender.repeats for contender in contenders), default=0)
    for number in range(rounds):
        for contender in contenders:
            if (number + 1) * contender.repeats // rounds > number * contender.repeats // rounds:
                contender.samples.append(contender.run_turn())
