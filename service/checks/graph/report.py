"""The report of a check on the wire, from its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from schemas.datatype import BY_ANY_NAME, Array
from schemas.json_writer import defer_tensor
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
from schemas.tensor import Encoding, encode_number
from schemas.tensor import encode_tensor as encode_now
from service.checks.common import report_entries
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.gradient_sources import GradientSources
from service.checks.graph.judge import Judge
from service.checks.graph.problem import Problem
from service.checks.graph.summary import summarize_check
from service.numerics.core.batching import unravel_index
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import Precision
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.gradients.finite_difference import Difference
from service.numerics.verdict import elementwise, gradient_verdict, metrics
from service.numerics.verdict.disagreement import Partition
from service.numerics.verdict.gradient_verdict import GradientVerdict
from service.numerics.verdict.metrics import DistanceMetrics
from service.numerics.verdict.outcome import Outcome

TensorEncoder = partial[Any]


@dataclass(frozen=True)
class CheckResults:
    """Verdicts by name, and disagreements and diagnoses where there are any."""

    verdicts: Mapping[str, GradientVerdict]
    disagreements: Mapping[str, Sequence[Partition]]
    diagnoses: Mapping[str, Sequence[BugExplanation]]


def build_report(
    problem: Problem,
    routes: GradientSources,
    judge: Judge,
    results: CheckResults,
    stage_timer: StageTimer,
    encoding: Encoding,
    *,
    defer_tensors: bool = False,
) -> CheckReport:
    """Build the report, with its tensors in an encoding or deferred to the writer."""
    encode = partial(defer_tensor if defer_tensors else encode_now, encoding=encoding)
    include = problem.request.include
    verdicts = {**results.verdicts, **{name: _judge_empty(problem, name) for name in problem.empty_names}}
    outcome = gradient_verdict.combine_outcomes([verdict.outcome for verdict in verdicts.values()])
    with stage_timer.time_stage("verdict"):
        discrepancies = {
            name: _build_discrepancies(problem, routes, judge, name) for name in iterate_interruptibly(problem.names)
        }
        discrepancies |= {name: _build_empty_discrepancies(problem, name) for name in problem.empty_names}
    report: CheckReport = {
        "outcome": cast("Any", outcome.wire_name),
        "summary": summarize_check(
            outcome, _list_summed_verdicts(verdicts), results.disagreements, _list_names_without_candidate(problem)
        ),
        "loss": {
            "analytic": encode_number(routes.analytic.values[problem.graph.loss_name].item()),
            "autograd": encode_number(routes.autograd.loss.item()),
        },
        "gradients": _build_gradients(problem, routes, judge, encode) if "gradients" in include else {},
        "discrepancies": discrepancies,
        "verdicts": {
            name: _build_verdict(problem, routes, judge, name, verdict, results.diagnoses.get(name, ()))
            for name, verdict in iterate_interruptibly(verdicts.items())
        },
        "intermediates": _build_intermediates(problem, routes, encode) if "intermediates" in include else {},
        "cost": {
            "loss_evaluations": routes.evaluations,
            "seconds": stage_timer.elapsed_seconds,
            "stages": cast("Any", stage_timer.stage_seconds),
        },
        "model": {"nodes": model_language.graph_to_dict(problem.graph)},
        "model_text": model_language.write_cached_text(problem.graph),
    }
    if problem.declared_recipe is not None:
        report["judged_as"] = problem.declared_recipe.describe()
    if routes.joint is not None:
        names = list(routes.joint.names)
        report["directions"] = [{**report_entries.build_direction(line), "names": names} for line in routes.joint.lines]
    if results.disagreements:
        report["disputes"] = {
            name: [_build_dispute(partition) for partition in sides] for name, sides in results.disagreements.items()
        }
    return report


def _list_summed_verdicts(verdicts: Mapping[str, GradientVerdict]) -> Mapping[str, GradientVerdict]:
    """Return the verdicts that a summary speaks of: a tensor without elements is no more than of the wrong shape."""
    return {name: each for name, each in verdicts.items() if each.element_count or each.outcome != Outcome.PASS}


def _list_names_without_candidate(problem: Problem) -> list[str]:
    """Return the names without a candidate, if other names have one."""
    return [name for name in problem.names if name not in problem.candidate] if problem.candidate else []


def _build_dispute(partition: Partition) -> DisputeReport:
    return {
        "elements": partition.element_count,
        "agree": cast("Any", list(partition.agreeing)),
        "alone": cast("Any", list(partition.dissenting)),
    }


def _build_gradients(
    problem: Problem, routes: GradientSources, judge: Judge, encode: TensorEncoder
) -> dict[str, Gradient]:
    gradients = {name: _build_gradient(problem, routes, name, encode) for name in iterate_interruptibly(problem.names)}
    gradients |= {name: _build_empty_gradient(problem, name, encode) for name in problem.empty_names}
    if "allowances" in problem.request.include:
        for name, gradient in iterate_interruptibly(gradients.items()):
            is_empty = name in problem.empty_names
            gradient["allowed"] = gradient["error_bound"] if is_empty else encode(judge.compute_allowed_error(name))
    return gradients


def _build_gradient(problem: Problem, routes: GradientSources, name: str, encode: TensorEncoder) -> Gradient:
    difference = routes.differences[name]
    datatype = BY_ANY_NAME[problem.dtype.name]
    gradient: Gradient = {
        "analytic": encode(routes.analytic.gradients[name], datatype=datatype),
        "autograd": encode(routes.autograd.gradients[name], datatype=datatype),
        "finite_difference": encode(difference.value),
        "error_bound": encode(difference.error_bound),
    }
    if name in problem.candidate:
        tensor = problem.candidate[name]
        array = tensor.array if tensor.datatype is not None else tensor.array.astype(np.float64)
        gradient["candidate"] = encode(array, datatype=tensor.datatype)
    return gradient


def _judge_empty(problem: Problem, name: str) -> GradientVerdict:
    """Return the verdict on the gradient of a tensor without elements: it has the right shape, or not."""
    shape, candidate = problem.graph.empty_shapes[name], problem.candidate.get(name)
    if candidate is not None and candidate.array.shape != shape:
        return elementwise.judge_shape_mismatch(candidate.array.shape, shape)
    return gradient_verdict.make_empty_verdict()


def _build_empty_gradient(problem: Problem, name: str, encode: TensorEncoder) -> Gradient:
    empty, datatype = np.zeros(problem.graph.empty_shapes[name]), BY_ANY_NAME[problem.dtype.name]
    wide: Any = encode(empty)
    gradient: Gradient = {
        "analytic": encode(empty.astype(problem.dtype.storage_dtype), datatype=datatype),
        "autograd": encode(empty.astype(problem.dtype.storage_dtype), datatype=datatype),
        "finite_difference": wide,
        "error_bound": wide,
    }
    candidate = problem.candidate.get(name)
    if candidate is not None:
        array = candidate.array.astype(np.float64) if candidate.datatype is None else candidate.array
        gradient["candidate"] = encode(array, datatype=candidate.datatype)
    return gradient


def _build_empty_discrepancies(problem: Problem, name: str) -> Discrepancies:
    none: Metrics = _encode_metrics(metrics.NO_DISTANCES, (0,) * len(problem.graph.empty_shapes[name]))
    discrepancies: Discrepancies = {
        "analytic_vs_autograd": none,
        "analytic_vs_finite_difference": none,
        "autograd_vs_finite_difference": none,
    }
    candidate = problem.candidate.get(name)
    if candidate is not None and candidate.array.shape == problem.graph.empty_shapes[name]:
        discrepancies["candidate_vs_analytic"] = none
        discrepancies["candidate_vs_autograd"] = none
        discrepancies["candidate_vs_finite_difference"] = none
    return discrepancies


def _build_intermediates(problem: Problem, routes: GradientSources, encode: TensorEncoder) -> dict[str, Intermediate]:
    datatype, graph = BY_ANY_NAME[problem.dtype.name], problem.graph
    kinds = {**graph.leaf_kinds, **graph.empty_kinds}

    def encode_each(name: str, value: Array, *gradients: Array) -> Intermediate:
        value_datatype = BY_ANY_NAME[_DATATYPES_BY_KIND[kinds[name]]] if name in kinds else datatype
        by_hand, by_torch = (encode(gradient, datatype=datatype) for gradient in gradients)
        return {"value": encode(value, datatype=value_datatype), "analytic": by_hand, "autograd": by_torch}

    def build_each(name: str) -> Intermediate:
        zeros = np.zeros(graph.all_shapes[name], problem.dtype.storage_dtype)
        if name in graph.empty_shapes:
            return encode_each(name, zeros, zeros, zeros)
        value = routes.analytic.values[name]
        if name in kinds:
            return encode_each(name, value, zeros, zeros)
        return encode_each(name, value, routes.analytic.gradients[name], routes.autograd.gradients[name])

    return {name: build_each(name) for name in iterate_interruptibly(graph.result_names[:-1])}


_DATATYPES_BY_KIND = {"index": "INT64", "bool": "BOOL"}


def _build_discrepancies(problem: Problem, routes: GradientSources, judge: Judge, name: str) -> Discrepancies:
    by_hand, by_torch = routes.analytic.gradients[name], routes.autograd.gradients[name]
    difference = None if routes.differences[name].is_unexamined else routes.differences[name].value
    precision, examined = problem.dtype.precision, problem.get_examined_elements(name)
    discrepancies: Discrepancies = {
        "analytic_vs_autograd": _build_metrics(by_hand, by_torch, precision, examined),
        "analytic_vs_finite_difference": _build_metrics(by_hand, difference, precision, examined),
        "autograd_vs_finite_difference": _build_metrics(by_torch, difference, precision, examined),
    }
    if judge.has_comparable_candidate(name):
        candidate, precision = problem.candidate[name].array, problem.get_precision(name)
        discrepancies["candidate_vs_analytic"] = _build_metrics(candidate, by_hand, precision, examined)
        discrepancies["candidate_vs_autograd"] = _build_metrics(candidate, by_torch, precision, examined)
        discrepancies["candidate_vs_finite_difference"] = _build_metrics(candidate, difference, precision, examined)
    return discrepancies


def _build_metrics(a: Array, b: Array | None, precision: Precision, examined: Array | None) -> Metrics:
    """Build the metrics of two gradients; None for one of which nothing is known."""
    shape = a.shape
    if b is None:
        return _encode_unknown_metrics(len(shape))
    if examined is not None:
        a, b = a.ravel()[examined], b.ravel()[examined]
    distances = metrics.measure_distances(a, b, precision)
    worst = distances.worst_index if examined is None else unravel_index(int(examined[distances.worst_index[0]]), shape)
    return _encode_metrics(distances, worst)


def _encode_metrics(distances: DistanceMetrics, worst: tuple[int, ...]) -> Metrics:
    return {
        "max_abs": encode_number(distances.max_abs),
        "max_rel": encode_number(distances.max_rel),
        "rms": encode_number(distances.rms),
        "relative_l2": encode_number(distances.relative_l2),
        "cosine": encode_number(distances.cosine),
        "max_ulp": encode_number(distances.max_ulp),
        "worst_index": list(worst),
    }


def _encode_unknown_metrics(dimensions: int) -> Metrics:
    return {**_UNKNOWN_METRICS, "worst_index": [0] * dimensions}


_UNKNOWN_METRICS = _encode_metrics(metrics.make_unknown_distances(()), ())


def _build_verdict(
    problem: Problem,
    routes: GradientSources,
    judge: Judge,
    name: str,
    verdict: GradientVerdict,
    diagnoses: Sequence[BugExplanation],
) -> VerdictReport:
    report: VerdictReport = {
        "outcome": cast("Any", verdict.outcome.wire_name),
        "reason": verdict.reason,
        "elements": report_entries.build_element_counts(verdict),
        "smallest_detectable_error": encode_number(verdict.smallest_detectable_error),
        "worst": [report_entries.build_worst_element(result) for result in verdict.worst_elements],
        "kinks": _build_kinks(routes.differences[name]) if name in routes.differences else [],
        "diagnoses": report_entries.build_diagnoses(diagnoses),
    }
    is_empty = name in problem.graph.empty_shapes
    if verdict.outcome == Outcome.FAIL and not is_empty and (pattern := judge.describe_error_pattern(name)) is not None:
        report["pattern"] = pattern
    if name in routes.directional_differences:
        report["directions"] = [report_entries.build_direction(result) for result in verdict.direction_results or ()]
    if verdict.spread is not None:
        report["repeatability"] = {
            "runs": verdict.spread.run_count,
            "max_abs": encode_number(verdict.spread.largest),
            "explained": verdict.spread.is_explained,
        }
    if verdict.scale is not None:
        report["scale"] = {
            "factor": encode_number(verdict.scale.factor),
            "allowed": encode_number(verdict.scale.allowed),
        }
    if verdict.detection_limit is not None:
        report["missed"] = report_entries.build_miss_probability(verdict.detection_limit)
    return report


_MAX_KINKS = 1000


def _build_kinks(difference: Difference) -> list[Kink]:
    if difference.left_derivative is None or difference.right_derivative is None:
        return []
    left, right = difference.left_derivative.ravel(), difference.right_derivative.ravel()
    positions = np.flatnonzero(np.isfinite(left) & np.isfinite(right))[:_MAX_KINKS]
    return [
        {
            "index": list(unravel_index(int(position), difference.value.shape)),
            "left": encode_number(float(left[position])),
            "right": encode_number(float(right[position])),
        }
        for position in positions
    ]
