"""The whole check along a joint direction beside torch's fast mode: `python -m benchmarks.fast_mode`.

Both move all tensors along random directions. Seconds are processor time of one thread, medians of turns.
"""

# What sizes its thread pools when it is loaded is loaded after this.
import benchmarks.one_thread  # noqa: F401

# isort: split
import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks import tables
from benchmarks.contenders import make_unlimited
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.peers import make_gradcheck_call
from benchmarks.problems import PROBLEMS, Array, encode_array
from benchmarks.timing import Contender, MeasuringBudget, measure_seconds, run_in_turns, warm_up
from service.checks.graph.check import check

BLOCK_WIDTHS = (16, 64, 128)
TOKENS, HEADS = 16, 4
TORCH_FAST = "torch gradcheck, fast mode"
WAYS: Mapping[str, Mapping[str, Any]] = {
    "joint direction": {"projections": 1},
    "a direction of each tensor": {"projections": 1, "joint": False},
}


@dataclass(frozen=True)
class FastModeProblem:
    """A loss as a request of the service, and for torch with the tensors it is differentiated by."""

    request: Mapping[str, Any]
    inputs: Mapping[str, Array]
    torch_loss: Callable[..., torch.Tensor]


def make_block(width: int) -> FastModeProblem:
    """A transformer block, pre-norm, of `attention_block` in any width."""
    generator = np.random.default_rng(width)
    x, y = generator.normal(size=(2, 1, TOKENS, width))
    weights = {
        "gain1": generator.uniform(0.5, 1.5, width),
        "shift1": generator.normal(size=width) / 10,
        **{f"w_{part}": generator.normal(size=(width, width)) / np.sqrt(width) for part in ("q", "k", "v", "out")},
        "gain2": generator.uniform(0.5, 1.5, width),
        "shift2": generator.normal(size=width) / 10,
        "w_wide": generator.normal(size=(4 * width, width)) / np.sqrt(width),
        "b_wide": generator.normal(size=4 * width) / 10,
        "w_narrow": generator.normal(size=(width, 4 * width)) / np.sqrt(4 * width),
        "b_narrow": generator.normal(size=width) / 10,
    }
    request = {
        "tensors": {"x": encode_array(x), "y": encode_array(y)},
        "weights": {name: encode_array(weight) for name, weight in weights.items()},
        "model": {"nodes": [*_list_block_nodes(width)]},
        "encoding": "b64",
    }
    return FastModeProblem(request, weights, _make_torch_block(x, y))


def _list_block_nodes(width: int) -> Iterator[dict[str, Any]]:
    def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
        return {"name": name, "op": op, "inputs": list(inputs), **attributes}

    yield node("normal1", "layer_norm", "x", "gain1", "shift1", normalized_shape=[width])
    for part in ("q", "k", "v"):
        yield node(f"{part}_flat", "linear", "normal1", f"w_{part}")
        yield node(f"{part}_split", "reshape", f"{part}_flat", shape=[1, TOKENS, HEADS, width // HEADS])
        yield node(part, "transpose", f"{part}_split", dim0=1, dim1=2)
    yield node("attended", "scaled_dot_product_attention", "q", "k", "v", is_causal=True)
    yield node("together", "transpose", "attended", dim0=1, dim1=2)
    yield node("merged", "reshape", "together", shape=[1, TOKENS, width])
    yield node("projected", "linear", "merged", "w_out")
    yield node("residual1", "add", "x", "projected")
    yield node("normal2", "layer_norm", "residual1", "gain2", "shift2", normalized_shape=[width])
    yield node("wide", "linear", "normal2", "w_wide", "b_wide")
    yield node("active", "gelu", "wide")
    yield node("narrow", "linear", "active", "w_narrow", "b_narrow")
    yield node("residual2", "add", "residual1", "narrow")
    yield node("loss", "mse_loss", "residual2", "y")


def _make_torch_block(x: Array, y: Array) -> Callable[..., torch.Tensor]:
    given, target = torch.from_numpy(x), torch.from_numpy(y)
    functional = torch.nn.functional

    def loss(gain1, shift1, w_q, w_k, w_v, w_out, gain2, shift2, w_wide, b_wide, w_narrow, b_narrow):
        normal = functional.layer_norm(given, gain1.shape, gain1, shift1)
        heads = [
            functional.linear(normal, weight).reshape(1, TOKENS, HEADS, -1).transpose(1, 2)
            for weight in (w_q, w_k, w_v)
        ]
        attended = functional.scaled_dot_product_attention(*heads, is_causal=True)
        residual = given + functional.linear(attended.transpose(1, 2).reshape(given.shape), w_out)
        wide = functional.linear(functional.layer_norm(residual, gain2.shape, gain2, shift2), w_wide, b_wide)
        return functional.mse_loss(residual + functional.linear(functional.gelu(wide), w_narrow, b_narrow), target)

    return loss


def list_problems() -> dict[str, Callable[[], FastModeProblem]]:
    """All problems by name: those of `make bench`, then the blocks."""

    def adapt(name: str) -> FastModeProblem:
        problem = PROBLEMS[name]()
        return FastModeProblem(problem.request, problem.inputs, problem.torch_loss)

    return {
        **{name: lambda name=name: adapt(name) for name in PROBLEMS},
        **{f"block {width}": lambda width=width: make_block(width) for width in BLOCK_WIDTHS},
    }


def measure_problem(problem: FastModeProblem, budget: MeasuringBudget) -> dict[str, dict[str, Any]]:
    """Figures of torch and of each way, in turns."""
    tensors = tuple(torch.from_numpy(each.copy()).requires_grad_() for each in problem.inputs.values())
    gradcheck = make_gradcheck_call(problem.torch_loss, tensors, fast=True)
    contenders = [_make_contender(TORCH_FAST, gradcheck, lambda _: {})]
    for way, differences in WAYS.items():
        request = {**problem.request, "finite_difference": differences}
        contenders.append(_make_contender(way, lambda request=request: check(request, make_unlimited()), _read_report))
    for contender in contenders:
        warm_up(contender, budget)
    run_in_turns(contenders)
    return {row: figures for contender in contenders for row, figures in contender.rows}


def _make_contender(name: str, run: Callable[[], Any], describe: Callable[[Any], Mapping[str, Any]]) -> Contender:
    last: list[Any] = [None]

    def turn() -> Mapping[str, float]:
        seconds, last[0] = measure_seconds(run)
        return {name: seconds}

    return Contender(turn, lambda: describe(last[0]))


def _read_report(report: Mapping[str, Any]) -> Mapping[str, Any]:
    if report["outcome"] != "pass":
        raise AssertionError(report["summary"])
    missed = [float(verdict["missed"]["relative_l2"]) for verdict in report["verdicts"].values()]
    return {"evaluations": report["cost"]["loss_evaluations"], "missed": max(missed)}


def write_table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Times, ratios, and what is missed with a probability of 0.001, as Markdown."""
    rows = [["scalars, tensors", *(str(figures["size"]) for figures in found.values())]]
    rows += [
        [way, *(tables.format_duration(figures[way]["seconds"]) for figures in found.values())]
        for way in (TORCH_FAST, *WAYS)
    ]
    for way in WAYS:
        ratios = (figures[TORCH_FAST]["seconds"] / figures[way]["seconds"] for figures in found.values())
        rows.append([f"{TORCH_FAST} over {way}", *(f"{ratio:.2f}" for ratio in ratios)])
    for way in WAYS:
        rows.append([f"loss evaluations, {way}", *(str(figures[way]["evaluations"]) for figures in found.values())])
        rows.append([f"missed error, {way}", *(f"{figures[way]['missed']:.0e}" for figures in found.values())])
    return tables.write_table(["median time", *found], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast_mode", description=__doc__)
    parser.add_argument("--problems", default=",".join(list_problems()), help="which, with commas")
    parser.add_argument("--seconds", type=float, default=3.0, help="for one contender")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    for name in options.problems.split(","):
        problem = list_problems()[name]()
        size = f"{sum(each.size for each in problem.inputs.values()):,}, {len(problem.inputs)}"
        found[name] = {"size": size, **measure_problem(problem, MeasuringBudget(options.seconds, 5, 200))}
    print(write_table(found))
    print(tables.describe_origin({"machine": describe_machine(), "versions": list_versions()}))


if __name__ == "__main__":
    main()
