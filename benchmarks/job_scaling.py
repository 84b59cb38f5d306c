"""Growth of a job on a cluster, from its measured parts: `python -m benchmarks.job_scaling`.

The parts are those of `benchmarks.jobs`, measured on a transformer block of one width, and the costs of dask those of
`benchmarks.job_costs`, which run before. The plans of wider blocks are made, and not computed: the service states their
operations before it computes anything.

Notes
-----
A job of B seconds of blocks, in N tasks of one length, takes on W workers

    T(W) = S + max(B / W, N c + R m) + F / b ceil(log2(W + 1))

with S the seconds in the runner alone, c and m those of the scheduler for a task and for a byte of a result, R the
bytes of all results, F the bytes of all functions, which every worker takes from one that has them already, and b the
bytes a second of the network. The last term overlaps with the computation in part, so that the sum is an upper
estimate. Beyond W = B / (N c + R m) workers further ones wait for the scheduler.

To another width, B grows as the operations, and N as B; S, F and R grow as the number of weights.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import saved_results, tables
from benchmarks.contenders import make_unlimited
from benchmarks.fast_mode_problems import make_block
from service.checks.graph import model_language
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.problem import build_problem

WIDTHS = (128, 288, 512, 912)
"""The last has 9,989,136 weights."""
WORKERS = (1, 8, 32, 128, 512)
NETWORK_BYTES_PER_SECOND = 1.25e9
"""Bytes a second of the network, assumed: 10 Gbit/s."""

Document = Mapping[str, Any]


class JobParts(NamedTuple):
    """Costs of one job.

    Attributes
    ----------
    serial_seconds
        Seconds in the runner alone.
    block_seconds
        Seconds of all blocks together.
    tasks
        Number of tasks.
    scheduler_seconds
        Seconds of the scheduler for all tasks and results.
    function_bytes, result_bytes
        Bytes of all functions, and of all results.
    """

    serial_seconds: float
    block_seconds: float
    tasks: float
    scheduler_seconds: float
    function_bytes: float
    result_bytes: float

    def predict_seconds(self, workers: int) -> float:
        """Return the seconds of the job on a number of workers."""
        computing = max(self.block_seconds / workers, self.scheduler_seconds)
        copies = math.ceil(math.log2(workers + 1))
        return self.serial_seconds + computing + copies * self.function_bytes / NETWORK_BYTES_PER_SECOND

    def find_most_useful_workers(self) -> int:
        """Return the number of workers beyond which all wait for the scheduler."""
        return int(self.block_seconds / self.scheduler_seconds)

    def grow(self, work_ratio: float, weight_ratio: float) -> "JobParts":
        """Return the parts of a job of so many times the operations and the weights."""
        return JobParts(
            self.serial_seconds * weight_ratio,
            self.block_seconds * work_ratio,
            self.tasks * work_ratio,
            self.scheduler_seconds * work_ratio,
            self.function_bytes * weight_ratio,
            self.result_bytes * weight_ratio,
        )


def read_parts(document: Document) -> JobParts:
    """Return the parts of the measured job."""
    parts, costs = document["parts"], document["costs"]
    result_bytes = parts["tasks"] * parts["bytes_back_a_task"]
    scheduler_seconds = (
        parts["tasks"] * costs["seconds_a_task"]["scheduler"]
        + result_bytes / 1e6 * costs["seconds_a_megabyte"]["scheduler"]
    )
    return JobParts(
        parts["serial_seconds"],
        parts["seconds"] - parts["serial_seconds"],
        parts["tasks"],
        scheduler_seconds,
        parts["bytes_of_functions"],
        result_bytes,
    )


def plan_width(width: int) -> dict[str, Any]:
    """Return the estimates of a check of all elements of a block."""
    problem = make_block(width)
    request = model_language.parse_check_request(dict(problem.request))
    _, estimate = estimate_check(build_problem(request), make_unlimited())
    return {
        "width": width,
        "weights": sum(array.size for array in problem.inputs.values()),
        "evaluations": estimate.evaluations,
        "operations": estimate.first_level_work,
        "bytes": estimate.bytes,
    }


def make_document(measured: Document, costs: Document, widths: Sequence[int]) -> dict[str, Any]:
    """Return the measured parts and costs with the plans of all widths."""
    plans = [plan_width(width) for width in dict.fromkeys((measured["width"], *widths))]
    loads = {"parts": measured["load"], "costs": costs["load"]}
    measured_parts = {"width": measured["width"], "parts": measured["parts"], "costs": costs, "loads": loads}
    return {**measured_parts, "plans": plans, "machine": costs["machine"], "versions": costs["versions"]}


def grow_parts(document: Document) -> list[JobParts]:
    """Return the parts of the job of each plan."""
    base, parts = document["plans"][0], read_parts(document)
    return [
        parts.grow(plan["operations"] / base["operations"], plan["weights"] / base["weights"])
        for plan in document["plans"]
    ]


def write_markdown(document: Document) -> str:
    """The tables that a document quotes."""
    plans, grown = document["plans"], grow_parts(document)
    pairs = list(zip(plans, grown, strict=True))
    head = ["weights", "evaluations", "operations", "memory", "functions", "results"]
    sizes = [
        [
            f"{plan['weights']:,}",
            f"{plan['evaluations']:,}",
            f"{plan['operations']:.1e}",
            *map(_format_bytes, (plan["bytes"], parts.function_bytes, parts.result_bytes)),
        ]
        for plan, parts in pairs
    ]
    times = [
        [
            f"{plan['weights']:,}",
            _format_duration(parts.serial_seconds),
            *(_format_duration(parts.predict_seconds(count)) for count in WORKERS),
            f"{parts.block_seconds / parts.serial_seconds:,.0f}",
        ]
        for plan, parts in pairs
    ]
    counts = [f"{count} worker{'s' if count > 1 else ''}" for count in WORKERS]
    return (
        "\n\n".join(
            [
                tables.write_table(head, sizes),
                tables.write_table(["weights", "runner alone", *counts, "B / S"], times),
                tables.wrap_prose(_describe_parts(document)),
                tables.describe_origin(document),
            ]
        )
        + "\n"
    )


def _describe_parts(document: Document) -> str:
    parts, costs = read_parts(document), document["costs"]
    return (
        f"A transformer block of width {document['width']} and wider ones. The parts of the first line are measured, "
        f"in processor time: {tables.format_duration(parts.serial_seconds)} in the runner alone, {parts.tasks:,} tasks "
        f"of {tables.format_duration(parts.block_seconds / parts.tasks)} on average, "
        f"{_format_bytes(parts.result_bytes / parts.tasks)} back for each. The scheduler takes "
        f"{tables.format_duration(costs['seconds_a_task']['scheduler'])} for a task and "
        f"{tables.format_duration(costs['seconds_a_megabyte']['scheduler'])} for a megabyte of results, so that it "
        f"keeps {parts.find_most_useful_workers():,} workers busy. When the parts and the costs were measured, "
        f"{document['loads']['parts']:g} and {document['loads']['costs']:g} processes wanted a core, which makes "
        "processor times longer. All other figures follow from the plans and the model, with a network of 10 Gbit/s. "
        "Evaluations and operations are those of the first level. Memory is the upper estimate for the runner."
    )


def _format_bytes(count: float) -> str:
    unit, size = next(pair for pair in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if count >= pair[1] or pair[0] == "kB")
    return f"{tables.format_number(count / size)} {unit}"


def _format_duration(seconds: float) -> str:
    return f"{tables.format_number(seconds / 60)} min" if seconds >= 600 else tables.format_duration(seconds)


def main() -> None:
    """Print the table, and keep that of all widths."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_scaling", description=__doc__)
    parser.add_argument("--widths", default=",".join(map(str, WIDTHS)), help="which, with commas")
    options = parser.parse_args()
    widths = [int(width) for width in options.widths.split(",")]
    measured, costs = (
        json.loads((saved_results.RESULTS / f"{name}.json").read_text()) for name in ("jobs", "job_costs")
    )
    document = make_document(measured, costs, widths)
    text = write_markdown(document)
    print(text)
    if widths == [*WIDTHS]:
        saved_results.save_results("job_scaling", document, text, text)


if __name__ == "__main__":
    main()
