"""Times alone over PyTorch's operator database, in turns: `python -m benchmarks.operator_times`.

`make operators` times each checker once. Here gradcheckd with random directions and both modes of torch take turns, and
the median of the seconds of the processor counts, on the samples of one operator in `--step`. To compare two versions,
run this in the checkout of each, with the same step.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import argparse
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from benchmarks.operator_checks import CHECKERS, FAST, OURS, PASS, SLOW, judge
from benchmarks.operator_samples import SECTIONS, OperatorSample, Section, draw_samples, list_operators
from benchmarks.tables import format_number, write_table
from gradcheckd.torch import use_directions

_LONG_SECONDS = 0.5
"""Seconds of torch's slow mode from which on one turn is enough."""
Times = dict[str, float]
"""Seconds of the processor by checker."""


def measure_times(sample: OperatorSample, section: Section, turns: int) -> Times | None:
    """Return the median times of the checkers on a sample; None if torch or gradcheckd does not pass it.

    In float32, torch has to pass the sample in float64.
    """
    reference, slow = sample.reference or sample, _run(SLOW, sample, section)
    if slow.outcome != PASS and _run(SLOW, reference, section).outcome != PASS:
        return None
    if _run(OURS, sample, section).outcome != PASS:
        return None
    count = 1 if slow.seconds > _LONG_SECONDS else turns
    rows = [{checker: _run(checker, sample, section).seconds for checker in CHECKERS} for _ in range(count)]
    return {checker: median(row[checker] for row in rows) for checker in CHECKERS}


def _run(checker: str, sample: OperatorSample, section: Section) -> Any:
    with use_directions("random"):
        return judge(checker, sample, section)


def measure_section(section: Section, step: int, turns: int) -> list[Times]:
    """Return the times of the samples of one operator in a step, the second one of each."""
    measured = (measure_times(sample, section, turns) for sample in _iterate_samples(section, step))
    return [times for times in measured if times is not None]


def _iterate_samples(section: Section, step: int) -> Iterator[OperatorSample]:
    for operator in list_operators(section)[1 % step :: step]:
        try:
            yield from draw_samples(operator, section, seed=0)
        except Exception:  # noqa: BLE001 - of any kind: the database's own
            continue


def describe_section(name: str, times: list[Times]) -> list[str]:
    """Return the row of a table: the samples, the median milliseconds, and the median ratios."""
    if not times:
        return [name, "0", "-", "-", "-", "-"]
    milliseconds = [1e3 * median(each[checker] for each in times) for checker in (OURS, SLOW)]
    ratios = [median(each[OURS] / each[mode] for each in times) for mode in (SLOW, FAST)]
    return [name, str(len(times)), *map(format_number, [*milliseconds, *ratios])]


def main() -> None:
    """Print the table."""
    names = [section.name for section in SECTIONS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator_times", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--step", type=int, default=6, help="take one operator of so many")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [
        describe_section(section.name, measure_section(section, arguments.step, arguments.turns))
        for section in SECTIONS
        if section.name in arguments.sections
    ]
    print(write_table(["median time", "samples", "gradcheckd, ms", "slow, ms", "over slow", "over fast"], rows))


if __name__ == "__main__":
    main()
