"""What a diagnosis takes beside the check that it belongs to: `make bench`.

Every gradient of a problem is wrong in a way that is no listed bug, so that every explanation is tried and none fits.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import saved_results, tables
from benchmarks.contenders import make_unlimited
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.problems import PROBLEMS
from service.checks.graph.check import check

TURNS_BY_PROBLEM = {"S0": 60, "S1": 60, "S2": 20, "S3": 3, "MLP": 20}


def add_wrong_candidates(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with candidates of which each element is off by some random part."""
    generator = np.random.default_rng(5)
    right = check({**request, "include": ["gradients"], "encoding": "nested"}, make_unlimited())["gradients"]
    candidate = {
        name: (gradient["analytic"] * generator.uniform(1.1, 2, np.shape(gradient["analytic"]))).tolist()
        for name, gradient in right.items()
    }
    return {**request, "candidate": candidate, "include": []}


def measure_diagnosis(name: str) -> dict[str, float]:
    """Median milliseconds of the diagnosis, and of the rest of the check."""
    request = add_wrong_candidates(PROBLEMS[name]().request)
    costs = [check(request, make_unlimited())["cost"] for _ in range(TURNS_BY_PROBLEM[name] + 1)][1:]
    diagnosis = statistics.median(cost["stages"]["diagnosis"] for cost in costs)
    rest = statistics.median(cost["seconds"] - cost["stages"]["diagnosis"] for cost in costs)
    return {"diagnosis": round(1e3 * diagnosis, 3), "rest": round(1e3 * rest, 3)}


def write_markdown(result: Mapping[str, Any]) -> str:
    """The table that a document quotes."""
    milliseconds = result["milliseconds"]
    rows = [
        ["diagnosis", *(tables.format_duration(times["diagnosis"] / 1e3) for times in milliseconds.values())],
        ["the rest of the check", *(tables.format_duration(times["rest"] / 1e3) for times in milliseconds.values())],
        ["part", *(f"{times['diagnosis'] / times['rest']:.2f}" for times in milliseconds.values())],
    ]
    return f"{tables.write_table(['median', *milliseconds], rows)}\n\n{tables.describe_origin(result)}\n"


def main() -> None:
    result = {"machine": describe_machine(), "versions": list_versions(("numpy", "torch")), "milliseconds": {}}
    result["milliseconds"] = {name: measure_diagnosis(name) for name in PROBLEMS}
    saved_results.save_results("diagnosis", result, write_markdown(result), write_markdown(result))
    print(write_markdown(result))


if __name__ == "__main__":
    main()
