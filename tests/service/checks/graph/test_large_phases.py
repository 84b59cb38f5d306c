"""Phases of which rounding leaves few digits: a check tells what it can, and never accuses itself."""

from collections import Counter

import numpy as np
import pytest

from service.checks.graph.check import check

NODES = {
    "a leaf": [{"name": "h", "op": "cos", "inputs": ["w"]}],
    "a product": [{"name": "z", "op": "mul", "inputs": ["w", "x"]}, {"name": "h", "op": "cos", "inputs": ["z"]}],
}
DIFFERENCES = {
    "elements": {},
    "joint directions": {"projections": 1},
    "directions": {"projections": 2, "joint": False},
}


def run_check(phase, nodes, difference, factor=None, seed=0):
    generator = np.random.default_rng([seed, 3])
    w = generator.uniform(1, 9, 3) * generator.choice([-1, 1], 3) * phase
    x = generator.uniform(0.5, 2, 3) if len(nodes) > 1 else np.ones(3)
    body = {
        "tensors": {"x": x.tolist()} if len(nodes) > 1 else {},
        "weights": {"w": w.tolist()},
        "model": {"nodes": [*nodes, {"name": "loss", "op": "sum", "inputs": ["h"]}]},
        "finite_difference": difference,
        "seed": seed,
    }
    if factor is not None:
        body["candidate"] = {"w": (-factor * x * np.sin(w * x)).tolist()}
    return check(body)


@pytest.mark.parametrize("difference", DIFFERENCES.values(), ids=DIFFERENCES)
@pytest.mark.parametrize("nodes", NODES.values(), ids=NODES)
@pytest.mark.parametrize("phase", [1e10, 1e12, 1e14, 1e16, 1e20])
def test_no_check_accuses_the_service(phase, nodes, difference):
    for factor, wrong_outcome in ((None, "fail"), (1.0, "fail"), (-1.0, "pass")):
        report = run_check(phase, nodes, difference, factor)
        assert "bug of this service" not in f"{report['summary']} {report['verdicts']}"
        assert not report.get("disputes")
        assert report["outcome"] != wrong_outcome


def test_a_flipped_gradient_is_found_as_long_as_a_phase_has_digits():
    outcomes = Counter(
        run_check(phase, nodes, DIFFERENCES["directions"], -1.0)["outcome"]
        for phase in (1e6, 1e10, 1e12)
        for nodes in NODES.values()
    )
    assert outcomes == {"fail": 6}
    assert run_check(1e6, NODES["a product"], DIFFERENCES["directions"], 1.0)["outcome"] == "pass"
