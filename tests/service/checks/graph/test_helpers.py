"""Helpers change nothing of a report, serve large checks alone, and stay within the limits of the check."""

import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.json_writer import write_json
from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import helpers, model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.check import check
from service.checks.graph.cost_estimate import estimate_bytes
from service.checks.graph.problem import build_problem
from service.helper_processes import shared_work
from service.helper_processes.pool import HelperPool
from service.numerics.core.interrupts import OutOfTimeError
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor
from tests.integration.long_check import build_long_check
from tests.service.helper_processes.conftest import is_idle, wait_until


def build_request(size: int) -> dict[str, Any]:
    """A check in which every element of w reaches every term of the loss, so that there are many blocks."""
    w = np.random.default_rng(0).normal(size=(size, size)) / size**0.5
    w[0, 0] = 0
    nodes = [
        {"name": "a", "op": "matmul", "inputs": ["w", "w"]},
        {"name": "b", "op": "gelu", "inputs": ["a"]},
        {"name": "c", "op": "matmul", "inputs": ["b", "b"]},
        {"name": "d", "op": "abs", "inputs": ["c"]},
        {"name": "e", "op": "layer_norm", "inputs": ["d"], "normalized_shape": [size]},
        {"name": "f", "op": "mul", "inputs": ["e", "w"]},
        {"name": "loss", "op": "mean", "inputs": ["f"]},
    ]
    return {"tensors": {}, "weights": {"w": w.tolist()}, "model": {"nodes": nodes}}


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[HelperPool]:
    """A pool of this test alone, which serves small checks too."""
    pool = HelperPool(helpers.HELPER_MODULES)
    monkeypatch.setattr(helpers, "HELPER_POOL", pool)
    monkeypatch.setattr(helpers, "SMALLEST_SHARED_WORK", 0)
    yield pool
    pool.close()
    assert not pool.helpers


def write_result(request: dict[str, Any], processes: int) -> bytes:
    """A report, without its times."""
    report: dict[str, Any] = dict(check(request, Limits(processes=processes)))
    return write_json({**report, "cost": report["cost"]["loss_evaluations"]})


def let_helpers_compute(monkeypatch: pytest.MonkeyPatch, finished: list[int]) -> None:
    """Have this process wait for helpers with every call, and count their results."""
    advance, finish = shared_work.SharedExecutor._advance, shared_work.SharedExecutor.finish

    def wait(work: shared_work.SharedExecutor, wanted: shared_work.SharedCall) -> None:
        wait_until(lambda: is_idle(work))
        if wanted.index not in wanted.job.results:
            advance(work, wanted)

    def count(work: shared_work.SharedExecutor, call: shared_work.SharedCall, result: Any) -> None:
        finish(work, call, result)
        finished.append(call.index)

    monkeypatch.setattr(shared_work.SharedExecutor, "_advance", wait)
    monkeypatch.setattr(shared_work.SharedExecutor, "finish", count)


@pytest.mark.parametrize("processes", [2, 3])
def test_a_report_is_the_same_byte_for_byte(pool: HelperPool, monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    request = build_request(16)
    alone = write_result(request, 1)
    assert not pool.helpers
    finished: list[int] = []
    let_helpers_compute(monkeypatch, finished)
    assert write_result(request, processes) == alone
    assert len(pool.helpers) == processes - 1
    assert len(finished) > 4


def test_shared_differences_report_their_progress(pool: HelperPool) -> None:
    steps: dict[int, list[int]] = {}
    for processes in (1, 2):
        done = steps[processes] = []
        check(build_request(16), Limits(processes=processes), lambda name, count, total, done=done: done.append(count))
    assert steps[1] == steps[2]
    assert len(steps[2]) > 4


def test_a_check_that_is_stopped_keeps_no_helper_busy(pool: HelperPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it by its clock, by its client, or by an error: all of them raise at a pause."""
    begun = threading.Event()
    take_call: Callable[..., shared_work.SharedCall | None] = shared_work.SharedExecutor.take

    def take(*given: Any, **more: Any) -> shared_work.SharedCall | None:
        call = take_call(*given, **more)
        if call is not None:
            begun.set()
        return call

    def stop(*_: object) -> None:
        if begun.is_set():
            raise OutOfTimeError

    monkeypatch.setattr(shared_work.SharedExecutor, "take", take)
    with pytest.raises(InvalidRequestError, match="out of time"):
        check(build_long_check(), Limits(processes=2, seconds=600), stop)
    assert begun.is_set()
    wait_until(lambda: all(helper in pool._idle for helper in pool.helpers))


def count_for(size: int, limits: Limits) -> int:
    problem = build_problem(model_language.parse_check_request(build_request(size)))
    plan = plan_within_limits(problem, limits)
    return helpers.count_helpers(problem, plan, limits)


def test_small_checks_have_no_helper() -> None:
    assert count_for(4, Limits(processes=4)) == 0
    assert count_for(48, Limits(processes=4)) == 3
    assert count_for(48, Limits()) == 0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_check_and_its_helpers_stay_within_its_memory(count: int) -> None:
    problem = build_problem(model_language.parse_check_request(build_request(48)))
    plan = plan_within_limits(problem, Limits())
    differences = finite_difference.estimate_cost(plan).memory_bytes
    enough = replace(Limits(processes=3), bytes=estimate_bytes(problem, differences) + count * differences)
    assert helpers.count_helpers(problem, plan, enough) == count


@pytest.mark.parametrize(("runs_ahead", "is_offered_first"), [(True, True), (False, False)])
def test_moves_of_all_tensors_are_offered_to_an_executor_that_runs_ahead(monkeypatch, runs_ahead, is_offered_first):
    events: list[str] = []

    class Recorder(InlineExecutor):
        def map(self, fn: Callable[..., Any], *iterables: Any, **_: Any) -> Iterator[Any]:
            events.append("offered")
            return map(fn, *iterables)

    monkeypatch.setattr(Recorder, "runs_ahead", runs_ahead)
    monkeypatch.setattr(helpers, "SMALLEST_SHARED_WORK", 0)
    token = helpers.CLUSTER.set(lambda: nullcontext(Recorder()))
    generator = np.random.default_rng(0)
    weights = {name: generator.normal(size=(12, 12)).tolist() for name in ("v", "w")}
    text = "a = matmul(v, w)\nb = gelu(a)\nc = matmul(b, w)\nd = layer_norm(c, [12])\ne = mul(d, v)\nloss = mean(e)"
    check({"tensors": {}, "weights": weights, "model": text}, progress=lambda *step: events.append("taken"))
    helpers.CLUSTER.reset(token)
    start = events.index("offered")
    assert (events[start : start + 2] == ["offered", "offered"]) == is_offered_first


def test_executor_of_helpers_runs_ahead():
    assert shared_work.SharedExecutor(0).runs_ahead
    assert not InlineExecutor().runs_ahead
