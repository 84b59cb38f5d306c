"""The whole check along a joint direction beside torch's fast mode: `python -m benchmarks.fast_mode`.

Both move all tensors along random directions, and so do scipy's `check_grad` and jax's `check_vjp`. Seconds are
processor time of one thread, medians of turns.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import check_grad

from benchmarks import saved_results, tables
from benchmarks.contenders import make_unlimited
from benchmarks.fast_mode_problems import FAST_MODE_PROBLEMS, FastModeProblem
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.problems import Array
from benchmarks.timing import (
    Contender,
    MeasuringBudget,
    make_process_contender,
    measure_cpu_share,
    run_in_turns,
    warm_up,
)
from service.checks.graph.check import check
from service.gunicorn.memory_allocator import configure_malloc

TORCH_FAST = "torch gradcheck, fast mode"
JOINT, OWN_DIRECTIONS = "joint direction", "a direction of each tensor"
WAYS: Mapping[str, Mapping[str, Any]] = {
    JOINT: {"projections": 1},
    OWN_DIRECTIONS: {"projections": 1, "joint": False},
}
MAX_SLOW_SCALARS = 5_000
"""Scalars up to which gradcheck's slow mode takes part: it takes seconds for more."""
TARGET_RATIOS: Mapping[str, float] = {
    "S0": 0.8,
    "S1": 0.8,
    "S2": 1.0,
    "S3": 1.0,
    "MLP": 0.75,
    "block 16": 1.4,
    "block 64": 1.0,
    "block 128": 1.0,
}
MAX_MISSED = 1e-5
"""Relative error that a joint direction should miss with a probability of 0.001 at most."""


def measure_problem(problem: FastModeProblem, budget: MeasuringBudget) -> dict[str, Any]:
    """Figures of every contender, in turns, and the size of the problem."""
    contenders = [*_iterate_peers(problem)]
    for way, differences in WAYS.items():
        request = {**problem.request, "finite_difference": differences}
        run = partial(check, request, make_unlimited())
        contenders.append(make_process_contender(way, run, _read_report))
    for contender in contenders:
        warm_up(contender, budget)
    run_in_turns(contenders)
    rows = {row: figures for contender in contenders for row, figures in contender.rows}
    return {"scalars": _count_scalars(problem), "tensors": len(problem.inputs), "rows": rows}


def _count_scalars(problem: FastModeProblem) -> int:
    return sum(array.size for array in problem.inputs.values())


def _iterate_peers(problem: FastModeProblem) -> Iterator[Contender]:
    yield make_process_contender(TORCH_FAST, problem.prepare_gradcheck(fast=True))
    if _count_scalars(problem) <= MAX_SLOW_SCALARS:
        yield make_process_contender(tables.TORCH_SLOW, problem.prepare_gradcheck(fast=False))
    yield make_process_contender("scipy check_grad, a direction", _prepare_scipy(problem))
    if problem.jax_loss is not None:
        yield make_process_contender("jax check_vjp, compiled", _prepare_jax(problem))


def _prepare_scipy(problem: FastModeProblem) -> Callable[[], float]:
    """`check_grad` along one random direction, with the loss and the gradient of torch."""
    arrays = list(problem.inputs.values())
    ends = np.cumsum([array.size for array in arrays])[:-1]

    def split(flat: Array) -> list[torch.Tensor]:
        parts = zip(np.split(flat, ends), arrays, strict=True)
        return [torch.from_numpy(part.reshape(array.shape)) for part, array in parts]

    def evaluate(flat: Array) -> float:
        with torch.no_grad():
            return problem.torch_loss(*split(flat)).item()

    def differentiate(flat: Array) -> Array:
        tensors = [tensor.requires_grad_() for tensor in split(flat)]
        gradients = torch.autograd.grad(problem.torch_loss(*tensors), tensors)
        return np.concatenate([gradient.numpy().ravel() for gradient in gradients])

    point = np.concatenate([array.ravel() for array in arrays])
    return lambda: check_grad(evaluate, differentiate, point, direction="random", rng=0)


def _prepare_jax(problem: FastModeProblem) -> Callable[[], None]:
    """`check_vjp` with its defaults; the loss is compiled before it is timed."""
    import jax
    import jax.test_util

    assert problem.jax_loss is not None
    jax.config.update("jax_enable_x64", True)
    loss = jax.jit(problem.jax_loss)
    inputs = tuple(jax.numpy.asarray(array) for array in problem.inputs.values())
    differentiate = jax.jit(lambda *args: jax.vjp(loss, *args))
    return lambda: jax.test_util.check_vjp(loss, differentiate, inputs)


def _read_report(report: Mapping[str, Any]) -> Mapping[str, Any]:
    if report["outcome"] != "pass":
        raise AssertionError(report["summary"])
    missed = [float(verdict["missed"]["relative_l2"]) for verdict in report["verdicts"].values()]
    return {"evaluations": report["cost"]["loss_evaluations"], "missed": float(f"{max(missed):.2g}")}


def write_markdown(document: Mapping[str, Any]) -> str:
    """Times, ratios, and what is missed with a probability of 0.001, a line for each problem."""
    problems = document["problems"]
    peers = [*dict.fromkeys(row for entry in problems.values() for row in entry["rows"])]
    times = tables.write_table(
        ["median time", "scalars", "tensors", *peers],
        (
            [
                name,
                f"{entry['scalars']:,}",
                str(entry["tensors"]),
                *(_format_time(entry["rows"].get(peer)) for peer in peers),
            ]
            for name, entry in problems.items()
        ),
    )
    ratios = tables.write_table(
        [f"{TORCH_FAST}: times as long as", JOINT, "at least", OWN_DIRECTIONS, "missed error", "evaluations"],
        (_list_ratios(name, entry["rows"]) for name, entry in problems.items()),
    )
    share = document["cpu_share"]
    note = tables.wrap_prose(
        "Medians of one run in which all take turns, one thread on one core, warm. The C library's allocator is set as "
        "in a worker of the service, for all of them. Seconds are processor time. "
        f"{_describe_load(share)} The missed error is the largest of a tensor along the joint direction, relative to "
        "the norm of its gradient, that is missed with a probability of 0.001 at most; the others state none. The "
        "evaluations are those of the loss along the joint direction."
    )
    return "\n\n".join([times, ratios, note, tables.describe_origin(document)]) + "\n"


def _format_time(figures: Mapping[str, Any] | None) -> str:
    return "-" if figures is None else tables.format_duration(figures["seconds"])


def _describe_load(share: float) -> str:
    had = f"The run had its core for {100 * share:.0f} % of the time by the clock"
    if share > _LEAST_SHARE:
        return f"{had}."
    return f"{had}: other programs shared the machine and its caches, and the figures are those of a loaded one."


_LEAST_SHARE = 0.9
"""Part of the time by the clock up to which a run counts as one on a loaded machine."""


def _list_ratios(name: str, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    ratios = {way: rows[TORCH_FAST]["seconds"] / rows[way]["seconds"] for way in WAYS}
    target, missed = TARGET_RATIOS.get(name), rows[JOINT]["missed"]
    met = "-" if target is None else f"{target:g}, {tables.describe_target(ratios[JOINT] >= target)}"
    found = f"{missed:.1e}, {tables.describe_target(missed <= MAX_MISSED)}"
    return [name, f"{ratios[JOINT]:.2f}", met, f"{ratios[OWN_DIRECTIONS]:.2f}", found, str(rows[JOINT]["evaluations"])]


def main() -> None:
    """Print the tables, and keep those of all problems."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast_mode", description=__doc__)
    parser.add_argument("--problems", default=";".join(FAST_MODE_PROBLEMS), help="which, with semicolons")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one contender")
    options = parser.parse_args()
    torch.set_num_threads(1)
    configure_malloc()
    names, budget = options.problems.split(";"), MeasuringBudget(options.seconds, 5, 200)
    share, problems = measure_cpu_share(
        lambda: {name: measure_problem(FAST_MODE_PROBLEMS[name](), budget) for name in names}
    )
    origin = {"machine": describe_machine(), "versions": list_versions(("numpy", "scipy", "torch", "jax"))}
    document = {"problems": problems, "cpu_share": round(share, 2), **origin}
    print(write_markdown(document))
    if names == [*FAST_MODE_PROBLEMS]:
        text = write_markdown(document)
        saved_results.save_results("fast_mode", document, text, text)


if __name__ == "__main__":
    main()
