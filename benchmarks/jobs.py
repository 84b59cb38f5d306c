"""Jobs: a transformer block on several processes, the queue, and the cost of a cluster: `make jobs`."""

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import saved_results, tables
from benchmarks.job_parts import measure_parts, measure_scheduler
from benchmarks.job_queue import QUEUED_JOBS, measure_cancelling, measure_submissions
from benchmarks.job_runs import ONE_PROCESS, ONE_WORKER, TWO_PROCESSES, TWO_WORKERS, measure_runs
from benchmarks.machine_info import describe_machine, list_versions

WIDTH = 128
TURNS = 3
SUBMISSIONS = 1000
NO_OPS = 2000
MIN_SPEEDUP, MIN_EFFICIENCY = 1.6, 0.8
MAX_SUBMISSION_SECONDS, MAX_CANCEL_SECONDS = 0.05, 1.0
_DATABASES = ("SQLite", "PostgreSQL")
_CANCELLED_WAYS = (TWO_PROCESSES, TWO_WORKERS)

Document = Mapping[str, Any]


def measure(directory: Path, width: int, turns: int, submissions: int) -> dict[str, Any]:
    """All figures."""
    return {
        "width": width,
        "load": round(os.getloadavg()[0], 1),
        "runs": measure_runs(directory / "runs", width, turns),
        "parts": measure_parts(width),
        "scheduler": measure_scheduler(directory / "scheduler", NO_OPS),
        "submissions": {name: measure_submissions(directory / name, name, submissions) for name in _DATABASES},
        "cancelling": {
            way: measure_cancelling(directory / f"cancel{number}", way, width, turns)
            for number, way in enumerate(_CANCELLED_WAYS)
        },
    }


def compute_speedup(document: Document, slow: str, fast: str) -> float:
    """Return how many times as fast one way is as another."""
    return document["runs"][slow]["seconds"] / document["runs"][fast]["seconds"]


def write_markdown(document: Document) -> str:
    """The tables that a document quotes."""
    parts = [
        _write_runs(document),
        _write_queue(document),
        _write_parts(document),
        tables.wrap_prose(_describe_circumstances(document)),
        tables.describe_origin(document),
    ]
    return "\n\n".join(parts) + "\n"


def _write_runs(document: Document) -> str:
    goals = {TWO_PROCESSES: (ONE_PROCESS, MIN_SPEEDUP), TWO_WORKERS: (ONE_WORKER, 2 * MIN_EFFICIENCY)}
    rows = []
    for way, figures in document["runs"].items():
        low, high = map(tables.format_duration, figures["range"])
        row = [way, tables.format_duration(figures["seconds"]), f"{low} to {high}"]
        row.append(f"{compute_speedup(document, ONE_PROCESS, way):.2f}")
        if way in goals:
            base, least = goals[way]
            speedup = compute_speedup(document, base, way)
            row.append(f"{speedup:.2f} x {base} (at least {least:g}: {tables.describe_target(speedup >= least)})")
        rows.append([*row, *[""] * (5 - len(row))])
    head = [f"block of width {document['width']}", "seconds", "of all turns", "speed", "goal"]
    return tables.write_table(head, rows)


def _write_queue(document: Document) -> str:
    rows = [
        [
            f"submission to {name}, {QUEUED_JOBS:,} queued",
            tables.format_duration(figures["p50"]),
            f"p99 {tables.format_duration(figures['p99'])}",
            f"below {tables.format_duration(MAX_SUBMISSION_SECONDS)}: "
            f"{tables.describe_target(figures['p99'] < MAX_SUBMISSION_SECONDS)}",
        ]
        for name, figures in document["submissions"].items()
    ]
    for way, figures in document["cancelling"].items():
        longest = figures["range"][1]
        rows.append(
            [
                f"cancelling, {way}",
                tables.format_duration(figures["seconds"]),
                f"longest {tables.format_duration(longest)}",
                f"below {tables.format_duration(MAX_CANCEL_SECONDS)}: "
                f"{tables.describe_target(longest < MAX_CANCEL_SECONDS)}",
            ]
        )
    return tables.write_table(["queue", "median", "slowest", "goal"], rows)


def _write_parts(document: Document) -> str:
    parts, scheduler = document["parts"], document["scheduler"]
    rows = [
        ["whole job, one process", tables.format_duration(parts["seconds"])],
        ["of it in the runner alone", tables.format_duration(parts["serial_seconds"])],
        [f"a block, of {parts['blocks']:,}", tables.format_duration(parts["block_seconds"])],
        [f"a task of blocks, of {parts['tasks']:,}", tables.format_duration(parts["task_seconds"])],
        [f"functions, of {parts['maps']} tensors, once a worker", f"{parts['bytes_of_functions'] / 1e6:.1f} MB"],
        ["sent with a task", f"{parts['bytes_sent_a_task'] / 1e3:.1f} kB"],
        ["sent back of a task", f"{parts['bytes_back_a_task'] / 1e3:.1f} kB"],
        ["dask, a task by the clock", tables.format_duration(scheduler["seconds_a_task"])],
        ["of it in the scheduler", tables.format_duration(scheduler["scheduler_seconds_a_task"])],
    ]
    return tables.write_table(["cost on a cluster", ""], rows)


def _describe_circumstances(document: Document) -> str:
    turns = document["runs"][ONE_PROCESS]["turns"]
    return (
        f"Medians of {turns} turns by the clock, from the begin of a job to its end, with a warm runner. All answers "
        "are the same to the byte. Service, runner, scheduler and workers share the machine, each process with one "
        "thread. "
        "The speed is that beside one process. Submissions are those of the reference example, by one client. "
        "Cancelling takes until the next job has the place of the cancelled one. The parts are processor time. When "
        f"the run began, {document['load']:g} other processes wanted a core at the mean of a minute."
    )


def main() -> None:
    """Print the tables, and keep those of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__)
    parser.add_argument("--width", type=int, default=WIDTH, help="of the transformer block")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each way")
    parser.add_argument("--submissions", type=int, default=SUBMISSIONS, help="to each database")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        # A server of PostgreSQL has a user of its own.
        Path(directory).chmod(0o755)
        document = measure(Path(directory), options.width, options.turns, options.submissions)
    document |= {
        "machine": describe_machine(),
        "versions": list_versions(("distributed", "sqlalchemy", "psycopg", "numpy", "torch")),
    }
    text = write_markdown(document)
    print(text)
    if options.width == WIDTH:
        saved_results.save_results("jobs", document, text, text)


if __name__ == "__main__":
    main()
