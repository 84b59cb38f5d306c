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

from benchmarks import kept, tables
from benchmarks.contenders import unlimited
from benchmarks.machine import machine, versions
from benchmarks.problems import PROBLEMS
from service.check import check

TURNS = {"S0": 60, "S1": 60, "S2": 20, "S3": 3, "MLP": 20}


def wrong(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request with candidates of which each element is off by some random part."""
    generator = np.random.default_rng(5)
    right = check({**request, "include": ["gradients"], "encoding": "nested"}, unlimited())["gradients"]
    candidate = {
        name: (each["analytic"] * generator.uniform(1.1, 2, np.shape(each["analytic"]))).tolist()
        for name, each in right.items()
    }
    return {**request, "candidate": candidate, "include": []}


def measured(name: str) -> dict[str, float]:
    """Median milliseconds of the diagnosis, and of the rest of the check."""
    request = wrong(PROBLEMS[name]().request)
    costs = [check(request, unlimited())["cost"] for _ in range(TURNS[name] + 1)][1:]
    diagnosis = statistics.median(each["stages"]["diagnosis"] for each in costs)
    rest = statistics.median(each["seconds"] - each["stages"]["diagnosis"] for each in costs)
    return {"diagnosis": round(1e3 * diagnosis, 3), "rest": round(1e3 * rest, 3)}


def markdown(result: Mapping[str, Any]) -> str:
    """The table that the README quotes."""
    found = result["milliseconds"]
    rows = [
        ["diagnosis", *(tables.duration(each["diagnosis"] / 1e3) for each in found.values())],
        ["the rest of the check", *(tables.duration(each["rest"] / 1e3) for each in found.values())],
        ["part", *(f"{each['diagnosis'] / each['rest']:.2f}" for each in found.values())],
    ]
    return f"{tables.table(['median', *found], rows)}\n\n{tables.origin(result)}\n"


def main() -> None:
    result = {"machine": machine(), "versions": versions(("numpy", "torch")), "milliseconds": {}}
    result["milliseconds"] = {name: measured(name) for name in PROBLEMS}
    kept.keep("diagnosis", result, markdown(result), markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
