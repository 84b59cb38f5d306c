"""Import of real models: how many import whole, and whether values and gradients are those of torch.

    python -m benchmarks.imported_models [NAME ...]

For each model of `benchmarks.real_models`, in evaluation mode and in float64: its import, a check of its own gradients
along one random direction, and a check of the same gradients with an error of 1 % in one tensor.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.real_models import RealModel, list_models
from gradcheckd.errors import GradcheckdError, describe_exception
from gradcheckd.torch import ModuleImportError, check_module

PLANTED = 1.01
LIMITS = {
    "GRADCHECKD_MAX_NODES": "20000",
    "GRADCHECKD_MAX_NAMES": "20000",
    "GRADCHECKD_MAX_ELEMENTS": "100000000",
    "GRADCHECKD_MAX_BINARY_BYTES": "1000000000",
    "GRADCHECKD_MAX_BODY_BYTES": "1000000000",
    "GRADCHECKD_MAX_BYTES": "16000000000",
    "GRADCHECKD_MAX_WORK": "10000000000000",
    "GRADCHECKD_MAX_SECONDS": "600",
}
"""Limits of the service in this process: a model of full width has more nodes and weights than a request should."""


@dataclass(frozen=True)
class ImportResult:
    """The result of one model.

    Attributes
    ----------
    name, library
        The model.
    nodes
        Number of nodes; 0 if the model does not import.
    outcome, planted_outcome
        Verdict on its own gradients, and on those with an error.
    missing
        Operators that have no counterpart, with their counts.
    note
        Error in words.
    seconds
        Processor time of all.
    """

    name: str
    library: str
    nodes: int = 0
    outcome: str = ""
    planted_outcome: str = ""
    missing: Counter[str] = field(default_factory=Counter)
    note: str = ""
    seconds: float = 0.0


def measure_model(model: RealModel) -> ImportResult:
    """Import and check one model."""
    started = time.process_time()
    torch.manual_seed(0)
    try:
        module, kwargs = model.make()
        module = fill_zeros(module.eval().double())
        kwargs = {name: widen(value) for name, value in kwargs.items()}
        report = run_check(module, kwargs)
        weight = next(parameter for parameter in module.parameters() if parameter.requires_grad)
        weight.register_hook(lambda gradient: PLANTED * gradient)
        planted = run_check(module, kwargs)
    except ModuleImportError as error:
        missing = Counter({f"{entry.operator}: {entry.reason}": entry.count for entry in error.unsupported})
        note = "" if missing else str(error).splitlines()[0]
        return ImportResult(model.name, model.library, missing=missing, note=note)
    except (GradcheckdError, RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
        return ImportResult(model.name, model.library, note=describe_exception(error))
    nodes = len(report.raw["model"]["nodes"])
    seconds = time.process_time() - started
    note = "" if report.passed else report.summary
    return ImportResult(model.name, model.library, nodes, report.outcome, planted.outcome, note=note, seconds=seconds)


def fill_zeros(module: torch.nn.Module) -> torch.nn.Module:
    """Give parameters of zeros, as of some heads, random numbers: behind them all gradients would be 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return module


def run_check(module: torch.nn.Module, kwargs: dict[str, Any]) -> Any:
    return check_module(module, (), kwargs=kwargs, finite_difference={"projections": 1}, include=[])


def widen(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def print_table(results: Sequence[ImportResult], write: Callable[[str], object] = print) -> None:
    """Write a line for each model, then the missing operators by count."""
    write(f"{'model':<24} {'library':<13} {'nodes':>5}  {'right':<13} {'planted':<13} {'s':>6}  note")
    for result in results:
        note = result.note or ", ".join(f"{name} x {count}" for name, count in result.missing.most_common(3))
        write(
            f"{result.name:<24} {result.library:<13} {result.nodes or '-':>5}  {result.outcome or '-':<13} "
            f"{result.planted_outcome or '-':<13} {result.seconds:>6.1f}  {note[:110]}"
        )
    whole = sum(bool(result.nodes) for result in results)
    write(f"\n{whole} of {len(results)} models import whole")
    missing = sum((result.missing for result in results), Counter[str]())
    for name, count in missing.most_common():
        write(f"  {count:>4} x {name}")


def main(names: Sequence[str]) -> None:
    os.environ.update(LIMITS)
    results: list[ImportResult] = []
    for model in list_models():
        if names and model.name not in names:
            continue
        results.append(measure_model(model))
        print_table(results[-1:], lambda line: print(line, flush=True) if line.startswith(results[-1].name) else None)
    print()
    print_table(results)


if __name__ == "__main__":
    main(sys.argv[1:])
