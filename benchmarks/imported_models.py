"""Import of real models: how many import whole, and whether values and gradients are those of torch: `make models`.

For each model of `benchmarks.real_models`, in evaluation mode and in float64: its import, a check of torch's gradients
along one random direction, and a check of the same gradients with an error of 1 % in one tensor. `--models` names some,
of which nothing is kept. `--results` names a file of the results by model: a run that ends early goes on from there.
"""

from benchmarks import one_thread  # isort: skip # noqa: F401 - before anything that computes

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import saved_results
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.real_models import RealModel, list_models
from benchmarks.tables import describe_origin, wrap_prose, write_table
from gradcheckd import Report, Service
from gradcheckd.errors import GradcheckdError, describe_exception
from gradcheckd.torch import ModuleImportError, Request, from_module
from gradcheckd.torch.module_arguments import name_outputs

NAME = "imported_models"
PLANTED = 1.01
MAX_SECONDS = 900
"""Seconds for one check."""
LIMITS = {
    "GRADCHECKD_MAX_NODES": "20000",
    "GRADCHECKD_MAX_NAMES": "20000",
    "GRADCHECKD_MAX_ELEMENTS": "100000000",
    "GRADCHECKD_MAX_BINARY_BYTES": "1000000000",
    "GRADCHECKD_MAX_BODY_BYTES": "1000000000",
    "GRADCHECKD_MAX_BYTES": "16000000000",
    "GRADCHECKD_MAX_WORK": "10000000000000",
    "GRADCHECKD_MAX_SECONDS": f"{MAX_SECONDS}",
}
"""Limits of the service in this process: a model of full width has more nodes and weights than a request should."""


@dataclass(frozen=True)
class ImportedModel:
    """The result of one model.

    Attributes
    ----------
    name, library
        The model.
    nodes
        Number of nodes; 0 if the model does not import.
    elements
        Number of elements of the gradients that were judged, along one direction.
    value_error
        Relative error of the loss of the graph against torch's.
    outcome, planted_outcome
        Verdict on torch's gradients, and on those with an error.
    missing
        Operators that have no counterpart, with their counts.
    note
        Error in words.
    seconds
        Processor time of all.
    arithmetic
        Least precise datatype in which the module computes.
    """

    name: str
    library: str
    nodes: int = 0
    elements: int = 0
    value_error: float = 0.0
    outcome: str = ""
    planted_outcome: str = ""
    missing: Mapping[str, int] = field(default_factory=dict[str, int])
    note: str = ""
    seconds: float = 0.0
    arithmetic: str = ""


def measure_model(model: RealModel) -> ImportedModel:
    """Import and check one model."""
    started = time.process_time()
    torch.manual_seed(0)
    try:
        module, kwargs = model.make()
        module = fill_zeros(module.eval().double())
        kwargs = {name: widen(value) for name, value in kwargs.items()}
        request = from_module(module, (), kwargs)
        loss, gradients = differentiate(module, kwargs, request)
        report = run_check(request, gradients)
        planted = run_check(request, plant_error(gradients))
    except ModuleImportError as error:
        missing = {f"{entry.operator}: {entry.reason}": entry.count for entry in error.unsupported}
        note = "" if missing else str(error).splitlines()[0]
        return ImportedModel(model.name, model.library, missing=missing, note=note)
    except (GradcheckdError, RuntimeError, TypeError, ValueError, AttributeError, ImportError) as error:
        return ImportedModel(model.name, model.library, note=" ".join(describe_exception(error).split()))
    return ImportedModel(
        model.name,
        model.library,
        request.node_count,
        sum(verdict.elements.total for verdict in report.verdicts.values()),
        abs(report.loss.analytic - loss) / max(abs(loss), sys.float_info.min),
        report.outcome,
        planted.outcome,
        note="" if report.passed else report.summary,
        seconds=time.process_time() - started,
        arithmetic=request.arithmetic,
    )


def differentiate(
    module: torch.nn.Module, kwargs: Mapping[str, Any], request: Request
) -> tuple[float, dict[str, torch.Tensor]]:
    """Return torch's loss, and its gradients of the tensors of a request."""
    inputs = {
        name: value.clone().requires_grad_() if isinstance(value, torch.Tensor) and name in request.tensors else value
        for name, value in kwargs.items()
    }
    outputs = name_outputs(module(**inputs))
    terms = [
        output if request.cotangents[name] is None else (output * request.cotangents[name]).sum()
        for name, output in outputs.items()
    ]
    loss = torch.stack([term.reshape(()) for term in terms]).sum()
    leaves: dict[str, Any] = {**inputs, **dict(module.named_parameters())}
    names = request.with_respect_to
    gradients = torch.autograd.grad(loss, [leaves[name] for name in names], materialize_grads=True)
    return float(loss.detach()), dict(zip(names, gradients, strict=True))


def plant_error(gradients: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the gradients with an error of 1 % in the first one."""
    name = next(iter(gradients))
    return {**gradients, name: PLANTED * gradients[name]}


def fill_zeros(module: torch.nn.Module) -> torch.nn.Module:
    """Give parameters of zeros, as of some heads, random numbers: behind them all gradients would be 0."""
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return module


def run_check(request: Request, gradients: Mapping[str, torch.Tensor]) -> Report:
    """Check gradients along one random direction, in the arithmetic of the module: some cast to float32 within."""
    options = {"finite_difference": {"projections": 1}, "include": [], "candidate_dtype": request.arithmetic}
    with Service(timeout=MAX_SECONDS) as service:
        return service.check(**request, **options, candidate=gradients)


def widen(value: Any) -> Any:
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def write_markdown(document: Mapping[str, Any]) -> str:
    """Write the table that a document quotes."""
    models = [ImportedModel(**model) for model in document["models"]]
    rows = [
        [
            model.name,
            model.library,
            f"{model.nodes or '-'}",
            model.arithmetic or "-",
            f"{model.value_error:.0e}" if model.nodes else "-",
            f"{model.elements:,}" if model.nodes else "-",
            model.outcome or "-",
            model.planted_outcome or "-",
            f"{model.seconds:.1f}" if model.nodes else "-",
        ]
        for model in models
    ]
    headings = [
        "model",
        "library",
        "nodes",
        "arithmetic",
        "error of the loss",
        "elements",
        "right",
        "off by 1 %",
        "seconds",
    ]
    whole, right = sum(bool(model.nodes) for model in models), sum(model.outcome == "pass" for model in models)
    found = sum(model.planted_outcome == "fail" for model in models)
    partly = (
        f" Measured are {len(models)} of {document['available']} models." if len(models) < document["available"] else ""
    )
    notes = [
        f"{whole} of {len(models)} models import whole. Torch's gradients of {right} pass; with one tensor off by 1 %, "
        f"those of {found} fail. All elements are judged, along one random direction.{partly}",
        *(f"{model.name}: {_describe_failure(model)}." for model in models if model.note or model.missing),
    ]
    parts = [write_table(headings, rows), "\n".join(wrap_prose(f"- {note}") for note in notes)]
    return "\n\n".join([*parts, describe_origin(document)]) + "\n"


def _describe_failure(model: ImportedModel) -> str:
    return model.note.rstrip(".") or ", ".join(f"{name} ({count})" for name, count in model.missing.items())


def read_results(path: Path | None) -> dict[str, ImportedModel]:
    """Read the results of a file by model."""
    if path is None or not path.exists():
        return {}
    models = [ImportedModel(**json.loads(line)) for line in path.read_text().splitlines()]
    return {model.name: model for model in models}


def measure_models(names: Sequence[str], path: Path | None, *, is_closed: bool = False) -> list[ImportedModel]:
    """Measure the models, except those whose results a file already has.

    Parameters
    ----------
    names
        Names of models; none for all.
    path
        File of results.
    is_closed
        True to measure none, and return what the file has.
    """
    known = read_results(path)
    results: list[ImportedModel] = []
    for model in list_models():
        if (names and model.name not in names) or (is_closed and model.name not in known):
            continue
        result = known.get(model.name)
        if result is None:
            result = measure_model(model)
            if path is not None:
                with path.open("a") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
        print(result, file=sys.stderr, flush=True)
        results.append(result)
    return results


def main() -> None:
    """Print the table, and keep that of all models."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imported_models", description=__doc__)
    parser.add_argument("--models", nargs="+", default=[], help="names; by default all")
    parser.add_argument("--results", type=Path, help="file of the results by model, to go on from")
    parser.add_argument("--tables", action="store_true", help="measure nothing more: the table of --results as it is")
    arguments = parser.parse_args()
    os.environ.update(LIMITS)
    torch.set_num_threads(1)
    results = measure_models(arguments.models, arguments.results, is_closed=arguments.tables)
    document = {
        "available": len(list_models()),
        "models": [asdict(result) for result in results],
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch", "torchvision", "timm", "transformers")),
    }
    text = write_markdown(document)
    print(text)
    if not arguments.models:
        saved_results.save_results(NAME, document, text, text)


if __name__ == "__main__":
    main()
