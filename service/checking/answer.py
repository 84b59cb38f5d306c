"""From the results to the report on the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from schemas.datatype import BY_ANY_NAME, Array
from schemas.report import (
    CheckReport,
    Discrepancies,
    DisputeReport,
    Gradient,
    Intermediate,
    Kink,
    Metrics,
)
from schemas.report import Verdict as VerdictReport
from schemas.tensor import Encoding, spelled
from schemas.tensor import encode as encode_now
from schemas.writing import unwritten
from service.checking import entries, language
from service.checking.judge import Judge
from service.checking.question import Problem
from service.checking.routes import Routes
from service.checking.stopwatch import Stopwatch
from service.checking.summary import summary
from service.numerics import discrepancy, verdict
from service.numerics.dispute import Side
from service.numerics.faults import Diagnosis
from service.numerics.gradients.finite_difference import Difference
from service.numerics.pausing import pausing
from service.numerics.precision import Precision
from service.numerics.verdict import Verdict

Encode = partial[Any]


@dataclass(frozen=True)
class Findings:
    """What was found, by name: of each a verdict; disputes of our routes and diagnoses where there are any."""

    verdicts: Mapping[str, Verdict]
    disputes: Mapping[str, Sequence[Side]]
    diagnoses: Mapping[str, Sequence[Diagnosis]]


def report(
    problem: Problem,
    routes: Routes,
    judge: Judge,
    findings: Findings,
    watch: Stopwatch,
    encoding: Encoding,
    *,
    late: bool = False,
) -> CheckReport:
    """Put the report together, its tensors in an encoding, or to be written in it later."""
    encode = partial(unwritten if late else encode_now, encoding=encoding)
    include = problem.request.include
    verdicts = findings.verdicts
    outcome = verdict.overall([each.outcome for each in verdicts.values()])
    with watch.stage("verdict"):
        discrepancies = {name: _discrepancies(problem, routes, judge, name) for name in pausing(problem.names)}
    found: CheckReport = {
        "outcome": cast("Any", outcome.text),
        "summary": summary(outcome, verdicts, findings.disputes, _own(problem)),
        "loss": {
            "analytic": spelled(routes.analytic.values[problem.graph.loss].item()),
            "autograd": spelled(routes.autograd.loss.item()),
        },
        "gradients": _gradients(problem, routes, judge, encode) if "gradients" in include else {},
        "discrepancies": discrepancies,
        "verdicts": {
            name: _verdict(problem, routes, name, each, findings.diagnoses.get(name, ()))
            for name, each in pausing(verdicts.items())
        },
        "intermediates": _intermediates(problem, routes, encode) if "intermediates" in include else {},
        "cost": {
            "loss_evaluations": routes.evaluations,
            "seconds": watch.seconds,
            "stages": cast("Any", watch.stages),
        },
        "model": {"nodes": language.resolved(problem.graph)},
    }
    if findings.disputes:
        found["disputes"] = {name: [_side(each) for each in sides] for name, sides in findings.disputes.items()}
    return found


def _own(problem: Problem) -> list[str]:
    """Names for which no candidate was given, though there are some."""
    return [name for name in problem.names if name not in problem.candidate] if problem.candidate else []


def _side(side: Side) -> DisputeReport:
    return {"elements": side.elements, "agree": cast("Any", list(side.agree)), "alone": cast("Any", list(side.alone))}


def _gradients(problem: Problem, routes: Routes, judge: Judge, encode: Encode) -> dict[str, Gradient]:
    found = {name: _gradient(problem, routes, name, encode) for name in pausing(problem.names)}
    if "allowances" in problem.request.include:
        for name, gradient in pausing(found.items()):
            gradient["allowed"] = encode(judge.allowed(name))
    return found


def _gradient(problem: Problem, routes: Routes, name: str, encode: Encode) -> Gradient:
    difference = routes.differences[name]
    own = BY_ANY_NAME[problem.dtype.name]
    gradient: Gradient = {
        "analytic": encode(routes.analytic.gradients[name], datatype=own),
        "autograd": encode(routes.autograd.gradients[name], datatype=own),
        "finite_difference": encode(difference.value),
        "error_bound": encode(difference.error_bound),
    }
    if name in problem.candidate:
        tensor = problem.candidate[name]
        array = tensor.array if tensor.datatype is not None else tensor.array.astype(np.float64)
        gradient["candidate"] = encode(array, datatype=tensor.datatype)
    return gradient


def _intermediates(problem: Problem, routes: Routes, encode: Encode) -> dict[str, Intermediate]:
    own = BY_ANY_NAME[problem.dtype.name]
    return {
        node.name: {
            "value": encode(routes.analytic.values[node.name], datatype=own),
            "analytic": encode(routes.analytic.gradients[node.name], datatype=own),
            "autograd": encode(routes.autograd.gradients[node.name], datatype=own),
        }
        for node in pausing(problem.graph.listed[:-1])
    }


def _discrepancies(problem: Problem, routes: Routes, judge: Judge, name: str) -> Discrepancies:
    by_hand, by_torch = routes.analytic.gradients[name], routes.autograd.gradients[name]
    difference = routes.differences[name].value
    own, examined = problem.dtype.precision, problem.examined(name)
    found: Discrepancies = {
        "analytic_vs_autograd": _metrics(by_hand, by_torch, own, examined),
        "analytic_vs_finite_difference": _metrics(by_hand, difference, own, examined),
        "autograd_vs_finite_difference": _metrics(by_torch, difference, own, examined),
    }
    if judge.comparable(name):
        candidate, precision = problem.candidate[name].array, problem.precision(name)
        found["candidate_vs_analytic"] = _metrics(candidate, by_hand, precision, examined)
        found["candidate_vs_autograd"] = _metrics(candidate, by_torch, precision, examined)
        found["candidate_vs_finite_difference"] = _metrics(candidate, difference, precision, examined)
    return found


def _metrics(a: Array, b: Array, precision: Precision, examined: Array | None) -> Metrics:
    shape = a.shape
    if examined is not None:
        a, b = a.ravel()[examined], b.ravel()[examined]
    found = discrepancy.measure(a, b, precision)
    worst = found.worst_index if examined is None else verdict.index_of(int(examined[found.worst_index[0]]), shape)
    return {
        "max_abs": spelled(found.max_abs),
        "max_rel": spelled(found.max_rel),
        "rms": spelled(found.rms),
        "relative_l2": spelled(found.relative_l2),
        "cosine": spelled(found.cosine),
        "max_ulp": spelled(found.max_ulp),
        "worst_index": list(worst),
    }


def _verdict(
    problem: Problem, routes: Routes, name: str, found: Verdict, diagnoses: Sequence[Diagnosis]
) -> VerdictReport:
    report: VerdictReport = {
        "outcome": cast("Any", found.outcome.text),
        "reason": found.reason,
        "elements": entries.elements(found),
        "smallest_detectable_error": spelled(found.smallest_detectable_error),
        "worst": [entries.worst(each) for each in found.worst],
        "kinks": _kinks(routes.differences[name]),
        "diagnoses": entries.diagnoses(diagnoses),
    }
    if problem.projections is not None:
        report["directions"] = [entries.direction(each) for each in found.directions or ()]
    if found.missed is not None:
        report["missed"] = entries.missed(found.missed)
    return report


_MAX_KINKS = 1000


def _kinks(difference: Difference) -> list[Kink]:
    if difference.left is None or difference.right is None:
        return []
    left, right = difference.left.ravel(), difference.right.ravel()
    places = np.flatnonzero(np.isfinite(left) & np.isfinite(right))[:_MAX_KINKS]
    return [
        {
            "index": list(verdict.index_of(int(place), difference.value.shape)),
            "left": spelled(float(left[place])),
            "right": spelled(float(right[place])),
        }
        for place in places
    ]
