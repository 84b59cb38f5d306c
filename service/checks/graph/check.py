"""`POST /v1/check`: request to numerics to report. Knows no Flask."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from schemas.report import CheckReport
from schemas.tensor import Encoding
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.answer_size import check_answer_size
from service.checks.graph.automatic_method import choose_automatic_method, describe_chosen_method
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.cost_estimate import CheckPlan
from service.checks.graph.diagnosis import diagnose_failures
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.judge import GradientSources, Judge
from service.checks.graph.parse import parse_problem
from service.checks.graph.problem import Problem
from service.checks.graph.report import CheckResults, build_report
from service.checks.graph.suggestions import locate_size_field, suggest_reductions, suggest_within_time
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference import DifferenceProgress

_DIAGNOSIS_TIME_FRACTION = 0.9
"""Part of the time at which a diagnosis ends with what it has: the report is still to be written."""


def check(
    body: object,
    limits: Limits | None = None,
    progress: DifferenceProgress | None = None,
    encoding: Encoding | None = None,
    reserve_answer_bytes: Callable[[int], None] | None = None,
) -> CheckReport:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        Limits of the request, the default ones by default.
    progress
        Callback for the progress of the finite differences, called a last time at their end; it may raise to stop the
        check. None by default.
    encoding
        Encoding of the report's tensors; that of the request by default.
    reserve_answer_bytes
        Callback for the largest size of the answer in bytes, called before anything is computed; it may raise to refuse
        the check. With it, `schemas.json_writer` writes the tensors later. None by default.

    Raises
    ------
    InvalidRequestError
        With every error of the request.
    """
    stage_timer = StageTimer()
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline():
        prepared = _prepare_check(body, limits, clock, stage_timer)
        problem, plan, size_field = prepared.problem, prepared.plan, prepared.size_field
        form = encoding or problem.request.encoding
        if reserve_answer_bytes is not None:
            reserve_answer_bytes(check_answer_size(problem, limits, form))
        # Overflow and NaN are findings here: the verdicts look for them in the results.
        remedy = partial(_suggest_within_time, problem, plan, limits, clock)
        with clock.refuse_on_timeout(remedy, *size_field), np.errstate(all="ignore"):
            routes = compute_gradients(problem, plan, stage_timer, limits, progress)
            findings, judge = _judge_all(problem, routes, stage_timer, clock)
            with clock.name_stage("the report was being written"):
                report = build_report(
                    problem, routes, judge, findings, stage_timer, form, defer_tensors=reserve_answer_bytes is not None
                )
            if prepared.has_chosen_method:
                report["finite_difference"] = describe_chosen_method(problem)
            return report


def estimate_check_work(body: object, limits: Limits) -> int:
    """Validate a request that is to be answered later, and return its multiply-adds, by estimate.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        Limits under which it will be answered.

    Raises
    ------
    InvalidRequestError
        As `check` would raise it before it computes.
    OutOfTimeError
        At a pause after the deadline of the current clock.
    """
    prepared = _prepare_check(body, limits, current_clock(limits.seconds), StageTimer())
    check_answer_size(prepared.problem, limits, "binary")
    return prepared.plan.first_level_work


class _PreparedCheck(NamedTuple):
    """A valid request: its problem and its plan, the place of its size, and whether its method was chosen here."""

    problem: Problem
    plan: CheckPlan
    size_field: tuple[str, ...]
    has_chosen_method: bool


def _prepare_check(body: object, limits: Limits, clock: Clock, stage_timer: StageTimer) -> _PreparedCheck:
    """Validate a request, and plan its differences within the limits."""
    with clock.refuse_on_timeout(SMALLER_MODEL_REMEDY, "with_respect_to"):
        _, parsed_problem = parse_problem(body, limits, model_language.parse_check_request)
    size_field = locate_size_field(parsed_problem)
    with (
        clock.refuse_on_timeout(partial(suggest_reductions, parsed_problem, limits), *size_field),
        stage_timer.time_stage("finite_difference"),
        clock.name_stage("the differences were being planned"),
    ):
        problem = choose_automatic_method(parsed_problem, limits)
        plan = plan_within_limits(problem, limits)
    return _PreparedCheck(problem, plan, size_field, problem is not parsed_problem)


def _suggest_within_time(problem: Problem, plan: CheckPlan, limits: Limits, clock: Clock) -> str:
    return suggest_within_time(problem, plan, limits, clock.evaluations_done)


def _judge_all(
    problem: Problem, routes: GradientSources, stage_timer: StageTimer, clock: Clock
) -> tuple[CheckResults, Judge]:
    """Judge every name, and diagnose the failures as far as there is time."""
    undecided = tuple(routes.list_undecided(problem.names))
    judge = Judge(replace(problem, names=undecided), routes)
    with stage_timer.time_stage("verdict"), clock.name_stage("the verdicts were being found"):
        verdicts = {name: judge.verdict(name) for name in iterate_interruptibly(problem.names)}
        disputes = {
            name: partitions
            for name in iterate_interruptibly(problem.names)
            if (partitions := judge.find_disagreement(name))
        }
    with stage_timer.time_stage("diagnosis"), clock.limit_to_fraction(_DIAGNOSIS_TIME_FRACTION):
        diagnoses = diagnose_failures(problem, judge, verdicts, routes.evaluations)
    return CheckResults(verdicts, disputes, diagnoses), judge
