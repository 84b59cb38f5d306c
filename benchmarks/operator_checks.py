"""The checkers of `make operators` on one sample: what they say, how long they take, and what they miss."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from benchmarks.operator_samples import OperatorSample, Section
from benchmarks.planted_operators import ELEMENT, draw_errors, plant_error
from gradcheckd.torch import gradcheck, gradgradcheck, use_directions
from gradcheckd.torch.mismatch_error import GradientMismatchError
from gradcheckd.torch.torch_internals import GradcheckError
from gradcheckd.undecided import listen_to_undecided

OURS, SLOW, FAST = "gradcheckd", "torch, slow", "torch, fast"
CHECKERS = (OURS, SLOW, FAST)
PASS, UNDECIDED, REFUSED, ERROR = "pass", "undecided", "refused", "error"
_MAX_REASON = 300
_OWN: dict[int, Callable[..., bool]] = {1: gradcheck, 2: gradgradcheck}
_TORCH: dict[int, Callable[..., bool]] = {1: torch.autograd.gradcheck, 2: torch.autograd.gradgradcheck}


class Judgement(NamedTuple):
    """What a checker says of a function, why, and in how many seconds of the processor."""

    outcome: str
    reason: str
    seconds: float


@dataclass
class SampleResult:
    """One sample.

    Attributes
    ----------
    name
        Name of the sample.
    refused_by_torch
        Why torch's slow mode refuses it, in the wider datatype if it has one; empty if it does not.
    rights
        Judgements of the right gradient by checker.
    ratios
        Our time with random directions over that of torch's modes, of gradients that pass; by mode.
    planted
        Outcomes by kind of error and by checker that accepts the right gradient.
    """

    name: str
    refused_by_torch: str = ""
    rights: dict[str, Judgement] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    planted: dict[str, dict[str, str]] = field(default_factory=dict)


def check_sample(sample: OperatorSample, section: Section, *, has_errors: bool) -> SampleResult:
    """Let all checkers judge the right gradient of a sample, and then wrong ones."""
    result = SampleResult(sample.name)
    slow = judge(SLOW, sample, section)
    reference = slow if sample.reference is None else judge(SLOW, sample.reference, section)
    if reference.outcome != PASS:
        result.refused_by_torch = reference.reason
        return result
    result.rights = {OURS: judge(OURS, sample, section), SLOW: slow, FAST: judge(FAST, sample, section)}
    if result.rights[OURS].outcome == PASS:
        result.ratios = _measure_ratios(sample, section)
        if has_errors:
            result.planted = _judge_errors(sample, section, result.rights)
    return result


def _measure_ratios(sample: OperatorSample, section: Section) -> dict[str, float]:
    with use_directions("random"):
        ours = judge(OURS, sample, section)
    if ours.outcome != PASS:
        return {}
    return {mode: ours.seconds / judge(mode, sample, section).seconds for mode in (SLOW, FAST)}


def _judge_errors(sample: OperatorSample, section: Section, rights: dict[str, Judgement]) -> dict[str, dict[str, str]]:
    accepting = [checker for checker in CHECKERS if rights[checker].outcome == PASS]
    outcomes: dict[str, dict[str, str]] = {}
    for kind, error in draw_errors(sample, section).items():
        function = plant_error(sample, section, error)
        with use_directions("coordinates" if kind == ELEMENT else "automatic"):
            outcomes[kind] = {checker: judge(checker, sample, section, function).outcome for checker in accepting}
    return outcomes


def judge(
    checker: str, sample: OperatorSample, section: Section, function: Callable[..., Any] | None = None
) -> Judgement:
    """Let a checker judge the function of a sample, or another one of its inputs."""
    inputs = tuple(tensor.detach().clone().requires_grad_() for tensor in sample.inputs)
    check = _OWN[section.order] if checker == OURS else _TORCH[section.order]
    options: dict[str, Any] = {"nondet_tol": sample.nondet_tol}
    if section.is_forward:
        options |= {"check_forward_ad": True, "check_backward_ad": False, "check_undefined_grad": False}
    if checker == FAST:
        options["fast_mode"] = True
    undecided: list[str] = []
    torch.manual_seed(sample.seed)
    start = time.process_time()
    try:
        with listen_to_undecided(undecided.append), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(function or sample.function, inputs, **options)
    except GradcheckError as error:
        outcome, reason = _describe_refusal(checker, error, undecided)
    except Exception as error:  # noqa: BLE001 - of any kind: it is counted, and named
        outcome, reason = ERROR, f"{type(error).__name__}: {error}"
    else:
        outcome, reason = (UNDECIDED, undecided[0]) if undecided else (PASS, "")
    return Judgement(outcome, reason[:_MAX_REASON], time.process_time() - start)


def _describe_refusal(checker: str, error: RuntimeError, undecided: list[str]) -> tuple[str, str]:
    # An undecided check that torch's own comparison refuses is no finding of ours.
    if undecided:
        return UNDECIDED, undecided[0]
    is_finding = checker != OURS or isinstance(error, GradientMismatchError)
    return REFUSED if is_finding else ERROR, f"{type(error).__name__}: {error}" if not is_finding else str(error)
