"""Who takes part in a problem: the peers, and the service itself."""

from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.peers import PreparedPeer, differentiate_by_torch, make_gradcheck_call, make_torch_inputs
from benchmarks.problems import Array, BenchmarkProblem
from benchmarks.timing import Contender, measure_cpu_share, measure_seconds
from service.checks.common.limits import Limits
from service.checks.graph.check import check

MAX_DISAGREEMENT = 1e-5
"""Error of a gradient, over its largest element, above which something else was measured than was meant."""


class DisagreementError(Exception):
    """A contender found another gradient."""


def compute_error(problem: BenchmarkProblem, gradient: Array) -> float:
    """Largest error of any input's gradient over its largest element, beside reverse mode in float64.

    Raises
    ------
    DisagreementError
        If it is so large that it is not the same gradient.
    """
    truth = differentiate_by_torch(problem.torch_loss, make_torch_inputs(problem))
    pairs = zip(problem.split_inputs(gradient), problem.split_inputs(truth), strict=True)
    worst = max(float(np.nanmax(np.abs(ours - true)) / np.abs(true).max()) for ours, true in pairs)
    if not worst <= MAX_DISAGREEMENT:
        raise DisagreementError(f"{problem.name}: an error of {worst:.1e}")
    return float(f"{worst:.1e}")


def make_peer(problem: BenchmarkProblem, row: str, ready: PreparedPeer) -> Contender:
    """A peer that was set up."""
    last: list[Any] = [None]

    def take_turn() -> Mapping[str, float]:
        seconds, last[0] = measure_seconds(ready.run)
        return {row: seconds}

    def finish() -> Mapping[str, Any]:
        gradient = ready.gradient(last[0])
        return {} if gradient is None else {"error": compute_error(problem, gradient)}

    return Contender(take_turn, finish)


def extrapolate_torch_slow(problem: BenchmarkProblem, row: str) -> Contender:
    """gradcheck's time for all inputs, from those for w1 and for a single factor of w1.

    Of the two times, the difference is what all further elements of w1 take, which all other elements take too: each
    is two evaluations of the same loss. What does not grow with the elements is counted once.
    """
    tensors = dict(zip(problem.inputs, make_torch_inputs(problem), strict=True))
    x, w1, w2 = (tensors[name].detach() for name in ("x", "w1", "w2"))
    one = torch.ones(1, dtype=torch.float64, requires_grad=True)
    all_of_w1 = make_gradcheck_call(lambda w1: problem.torch_loss(x, w1, w2), (tensors["w1"],), fast=False)
    single = make_gradcheck_call(lambda factor: problem.torch_loss(x, w1 * factor, w2), (one,), fast=False)
    count = problem.flat_inputs.size

    def take_turn() -> Mapping[str, float]:
        least, _ = measure_seconds(single)
        most, _ = measure_seconds(all_of_w1)
        return {row: least + (most - least) / (w1.numel() - 1) * (count - 1)}

    return Contender(take_turn, lambda: {"extrapolated": True})


def make_unlimited() -> Limits:
    """Limits that no benchmark meets; whatever is limited, now or later. One process has the processor time."""
    many = {field.name: getattr(Limits(), field.name) * 10**6 for field in fields(Limits)}
    return Limits(**many | {"processes": 1})


def make_service_contender(
    problem: BenchmarkProblem, method: str, rows: Mapping[str, Callable[[Any], float]]
) -> Contender:
    """The service; seconds of each row are taken from the report's cost, less the part that others had of the turn."""
    request = {**problem.request, "finite_difference": {"method": method}}
    last: list[Any] = [None]

    def take_turn() -> Mapping[str, float]:
        part, last[0] = measure_cpu_share(lambda: check(request, make_unlimited()))
        return {row: part * seconds(last[0]["cost"]) for row, seconds in rows.items()}

    return Contender(take_turn, lambda: _get_gradients(problem, last[0]))


def _get_gradients(problem: BenchmarkProblem, report: Mapping[str, Any]) -> Mapping[str, Any]:
    gradients = [report["gradients"][name]["finite_difference"]["b64"] for name in problem.inputs]
    counts = [report["verdicts"][name]["elements"] for name in problem.inputs]
    total, undecided = (sum(count[key] for count in counts) for key in ("total", "inconclusive"))
    if any(count["fail"] or count["not_examined"] for count in counts) or total != problem.flat_inputs.size:
        raise DisagreementError(f"{problem.name}: {report['summary']}")
    return {
        "error": compute_error(problem, np.frombuffer(b"".join(map(b64decode, gradients)))),
        "evaluations": report["cost"]["loss_evaluations"],
        "decided": 1 - undecided / total,
    }


def _get_difference_seconds(cost: Any) -> float:
    return cost["stages"]["finite_difference"]


make_central = partial(make_service_contender, method="central", rows={"central": _get_difference_seconds})
make_adaptive = partial(
    make_service_contender,
    method="adaptive",
    rows={"adaptive": _get_difference_seconds, "whole check": lambda cost: cost["seconds"]},
)
