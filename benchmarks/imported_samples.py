"""One sample of PyTorch's operator database as an import: torch's own gradient judged by the graph of the function."""

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

import gradcheckd
from benchmarks.operator_samples import OperatorSample, Section, as_tensors, set_seeds
from benchmarks.planted_operators import ELEMENT_ERROR, MATTERING_FRACTION
from gradcheckd.errors import GradcheckdError, describe_exception
from gradcheckd.torch import ModuleImportError, Request, from_module
from gradcheckd.torch.export_internals import pytree
from gradcheckd.torch.module_arguments import name_outputs

MAX_NUMBERS = 400
"""Numbers of the inputs of a sample, and of its outputs, at most."""
MAX_SAMPLES = 5
"""Samples of each operator at most, evenly spread over those that fit."""
EXAMINED_SAMPLES = 200
"""Samples of an operator that are looked at; some operators have thousands."""
LEFT_OUT, REFUSED, ERROR, WRONG_IN_TORCH = "left out", "refused", "error", "wrong in torch"
PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
ACCEPTED = (PASS, FAIL, INCONCLUSIVE, WRONG_IN_TORCH)
_ROUNDING = 2.0**-40
"""A gradient that changes the loss by a smaller part, over the size of the inputs, is 0 to rounding."""
_FOLLOWS = "it takes a result of another operator"
_MAX_REASON = 240


@dataclass(frozen=True)
class ImportedSample:
    """The result of a sample.

    Attributes
    ----------
    name
        Name of the operator, and the number of the sample.
    outcome
        Verdict on torch's gradient, `REFUSED`, `ERROR` or `LEFT_OUT`. `WRONG_IN_TORCH` is a failure of a gradient that
        torch's own slow checker refuses, too.
    reason
        Missing operator with its reason, or the report in short.
    is_finite
        True if loss and gradient are finite.
    planted_outcome
        Verdict on the same gradient with one element off by `ELEMENT_ERROR` of itself, or by that where all are 0
        to rounding; empty if none was planted.
    seconds
        Processor time of all.
    """

    name: str
    outcome: str
    reason: str = ""
    is_finite: bool = True
    planted_outcome: str = ""
    seconds: float = 0.0


def draw_import_samples(operator: Any, section: Section, seed: int) -> Iterator[OperatorSample]:
    """Draw samples of an operator that have at most `MAX_NUMBERS` numbers, evenly spread over all that were examined.

    Raises
    ------
    Exception
        Any error of the database.
    """
    set_seeds(operator, seed)
    raw_samples = operator.sample_inputs("cpu", section.dtype, requires_grad=True)
    samples = [
        _read_sample(operator, raw, f"{operator.formatted_name}[{number}]")
        for number, raw in enumerate(islice(raw_samples, EXAMINED_SAMPLES))
    ]
    fit = [sample for sample in samples if 0 < count_judged(sample.inputs) <= MAX_NUMBERS]
    yield from fit[:: -(-len(fit) // MAX_SAMPLES) or 1]


def _read_sample(operator: Any, raw: Any, name: str) -> OperatorSample:
    """Read a sample as a function of all its tensors; those without elements have no gradient to judge."""
    leaves, tree = pytree.tree_flatten((raw.input, list(raw.args), dict(raw.kwargs)))
    call = operator.get_op()

    def evaluate(*tensors: Tensor) -> Any:
        remaining = iter(tensors)
        given = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        first, others, named = pytree.tree_unflatten(given, tree)
        output = operator.gradcheck_wrapper(call, first, *others, **named)
        if raw.output_process_fn_grad is not None:
            output = raw.output_process_fn_grad(output)
        if isinstance(output, list | tuple):
            return tuple(value for value in output if isinstance(value, Tensor))
        return output

    inputs = [leaf.detach().requires_grad_(leaf.requires_grad) for leaf in leaves if isinstance(leaf, Tensor)]
    inputs = [leaf if leaf.numel() else leaf.detach() for leaf in inputs]
    return OperatorSample(name, evaluate, tuple(inputs), float(operator.gradcheck_nondet_tol))


def count_judged(inputs: Iterable[Tensor]) -> int:
    """Return the count of numbers in the tensors that require a gradient."""
    return sum(tensor.numel() for tensor in inputs if tensor.requires_grad)


def _copy(sample: OperatorSample) -> tuple[Tensor, ...]:
    return tuple(tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in sample.inputs)


def check_import(sample: OperatorSample) -> ImportedSample:
    """Import the function of a sample, and judge torch's gradient and a wrong one."""
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome, reason, is_finite, planted = _judge(sample)
    seconds = time.process_time() - started
    return ImportedSample(sample.name, outcome, reason[:_MAX_REASON], is_finite, planted, seconds)


def _judge(sample: OperatorSample) -> tuple[str, str, bool, str]:
    if reason := _find_unfitness(sample):
        return LEFT_OUT, reason, True, ""
    inputs = _copy(sample)
    torch.manual_seed(sample.seed)
    try:
        request = from_module(sample.function, inputs)
        candidate, is_finite = _differentiate(sample, request)
        request = request.include_unused([name for name in request.unused if bool(candidate[name].any())])
        candidate = {name: candidate[name] for name in request.with_respect_to}
        report = gradcheckd.check(**request, candidate=candidate)
        if report.outcome == FAIL and not _passes_in_torch(sample):
            return WRONG_IN_TORCH, report.summary, is_finite, ""
        # At a kink a gradient that is off may be another subgradient.
        is_smooth = not any(verdict.kinks for verdict in report.verdicts.values())
        is_planted = report.outcome == PASS and is_smooth
        planted = _judge_planted(request, candidate, sample, report.loss.analytic) if is_planted else ""
    except ModuleImportError as error:
        return REFUSED, describe_refusal(error), True, ""
    except GradcheckdError as error:
        return REFUSED, " ".join(f"service: {error}".split()), True, ""
    except Exception as error:  # noqa: BLE001 - of any kind: it is counted, and named
        return ERROR, describe_exception(error), True, ""
    return report.outcome, "" if report.passed else report.summary, is_finite, planted


def describe_refusal(error: ModuleImportError) -> str:
    """Return the first missing operator with its reason, or the first line of the error."""
    for operator in error.unsupported:
        if not operator.reason.startswith(_FOLLOWS):
            return f"{operator.operator}: {operator.reason}"
    return str(error).splitlines()[0]


def _find_unfitness(sample: OperatorSample) -> str:
    """Return why a sample has no gradient to judge; empty if it has one."""
    if any(tensor.layout is not torch.strided for tensor in sample.inputs):
        return "an input is sparse"
    if not all(bool(torch.isfinite(tensor).all()) for tensor in sample.inputs if tensor.requires_grad):
        return "an input is not finite"
    try:
        first, second = (as_tensors(sample.function(*_copy(sample))) for _ in range(2))
        is_random = any(
            not torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
            for one, other in zip(first, second, strict=True)
        )
    except Exception as error:  # noqa: BLE001 - torch's own
        return f"torch refuses it: {describe_exception(error)}"
    if is_random:
        return "random"
    outputs = [output for output in first if output.requires_grad and output.numel()]
    if not outputs:
        return "no output has a gradient"
    if sum(map(torch.numel, outputs)) > MAX_NUMBERS:
        return f"more than {MAX_NUMBERS} numbers in its outputs"
    return ""


def _differentiate(sample: OperatorSample, request: Request) -> tuple[dict[str, Tensor], bool]:
    """Return torch's gradient of the request's loss by name, and whether loss and gradient are finite."""
    inputs = _copy(sample)
    torch.manual_seed(sample.seed)
    terms = [
        output if request.cotangents[name] is None else (output * request.cotangents[name]).sum()
        for name, output in name_outputs(sample.function(*inputs)).items()
        if output.requires_grad
    ]
    loss = torch.stack([term.reshape(()) for term in terms]).sum()
    judged = {f"input{number}": tensor for number, tensor in enumerate(inputs) if tensor.requires_grad}
    gradients = torch.autograd.grad(loss, list(judged.values()), materialize_grads=True)
    finite = [bool(torch.isfinite(part).all()) for part in (loss, *gradients)]
    return dict(zip(judged, gradients, strict=True)), all(finite)


def _passes_in_torch(sample: OperatorSample) -> bool:
    inputs = _copy(sample)
    return torch.autograd.gradcheck(sample.function, inputs, raise_exception=False, nondet_tol=sample.nondet_tol)


def _judge_planted(request: Request, candidate: Mapping[str, Tensor], sample: OperatorSample, loss: float) -> str:
    """Return the verdict on the gradient with one element off: of those that matter, by a part of itself.

    A gradient that is 0, or as small as the rounding of the loss, has no such part: one of its elements is off by
    `ELEMENT_ERROR`.
    """
    largest = max(float(gradient.abs().max()) for gradient in candidate.values())
    size = max(float(tensor.detach().abs().max()) for tensor in sample.inputs if tensor.requires_grad)
    is_zero = largest * size <= _ROUNDING * abs(loss)
    places = [
        (name, place)
        for name, gradient in candidate.items()
        for place in torch.nonzero(gradient.abs().reshape(-1) >= MATTERING_FRACTION * largest).flatten().tolist()
    ]
    chosen = int(torch.randint(len(places), (), generator=torch.Generator().manual_seed(sample.seed)))
    name, place = places[chosen]
    wrong = candidate[name].detach().clone().contiguous()
    wrong.view(-1)[place] += ELEMENT_ERROR * (1.0 if is_zero else float(wrong.view(-1)[place]))
    return gradcheckd.check(**request, candidate={**candidate, name: wrong}).outcome
