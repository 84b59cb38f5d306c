"""`POST /v1/bugs`: which bugs a model can have, and what they make of its gradients. Knows no Flask."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from schemas.bugs import BugsAnswer, BugsRequest, CatalogueOfBugs, PlantedBug
from schemas.check import NodeBase
from schemas.problem_details import InvalidRequestError, describe_unknown, error_at, quote_name
from schemas.tensor import encode_tensor
from service.checks.common.deadline import Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.diagnosis import build_context, diagnose_failures
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.judge import GradientSources, Judge
from service.checks.graph.parse import parse_problem
from service.checks.graph.problem import Problem
from service.checks.graph.suggestions import SMALLER_MODEL_REMEDY
from service.numerics import diagnosis
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis import InjectedBug
from service.numerics.gradients.finite_difference import DifferencePlan
from service.numerics.verdict.outcome import Outcome

_REMEDY, _SIMULATION_STAGE = "Name fewer tensors, or take a smaller model", "bugs were being planted"
_BYTES_PER_ELEMENT = 256
"""Bytes of what a check may take that there have to be for each element of the candidates of an answer."""
_MAX_CANDIDATES = 50
"""Most candidates that are judged to find those that a check would name."""


def list_bugs() -> CatalogueOfBugs:
    """Every bug that a check names."""
    return {"bugs": [{"name": name, "explanation": text} for name, text in diagnosis.describe_bugs().items()]}


def simulate_bugs(body: object, limits: Limits | None = None) -> BugsAnswer:
    """Answer a request.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it; a bug that there is not, or that the model cannot have.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline():
        with clock.refuse_on_timeout(SMALLER_MODEL_REMEDY, "with_respect_to"):
            request, problem = parse_problem(body, limits, _parse_request)
        problem = problem.with_candidate({})
        with clock.refuse_on_timeout(_REMEDY, "with_respect_to"):
            with clock.name_stage("the differences were being planned"):
                plan = plan_within_limits(problem, limits)
            # Overflow and NaN are findings here.
            with np.errstate(all="ignore"):
                return {"bugs": _simulate_for_model(problem, plan, request.bug, limits, clock)}


def _simulate_for_model(
    problem: Problem, plan: DifferencePlan, bug: str | None, limits: Limits, clock: Clock
) -> list[PlantedBug]:
    if bug is None:
        with clock.name_stage(_SIMULATION_STAGE):
            return [_build_entry(each) for each in _drop_duplicates(_iterate_simulated_bugs(problem))]
    routes = compute_gradients(problem, plan, StageTimer(), limits)
    with clock.name_stage(_SIMULATION_STAGE):
        return _simulate_named_bug(problem, routes, bug, limits)


def _parse_request(body: object) -> BugsRequest[NodeBase]:
    request, known = model_language.parse_bugs_request(body), list(diagnosis.describe_bugs())
    if request.bug is not None and request.bug not in known:
        raise InvalidRequestError([error_at(describe_unknown("bug", request.bug, known), "bug")])
    return request


def _iterate_simulated_bugs(problem: Problem, bug: str | None = None) -> Iterator[InjectedBug]:
    scene = build_context(problem)
    right = {name: scene.right_gradient(name) for name in problem.names}
    precisions = {name: problem.with_candidate(right).get_precision(name) for name in right}
    return iterate_interruptibly(
        diagnosis.inject_bugs(replace(scene, candidates=right, precisions=precisions), problem.names, bug)
    )


def _drop_duplicates(bugs_made: Iterable[InjectedBug]) -> Iterator[InjectedBug]:
    """Of ways to make a bug that are told in the same words, the first."""
    told = set[tuple[str, str]]()
    for each in bugs_made:
        # One after the other: each has gradients of its own.
        if (each.bug_name, each.explanation) not in told:
            told.add((each.bug_name, each.explanation))
            yield each


def _build_entry(simulated: InjectedBug) -> PlantedBug:
    return {
        "name": simulated.bug_name,
        "tensor": next(iter(simulated.candidates)),
        "explanation": simulated.explanation,
    }


def _simulate_named_bug(problem: Problem, routes: GradientSources, bug: str, limits: Limits) -> list[PlantedBug]:
    """What the bug makes, where a check would fail it by its name."""
    judge = Judge(problem, routes)
    found, made = dict[str, PlantedBug](), False
    room = min(limits.elements, limits.bytes // _BYTES_PER_ELEMENT)
    for each in iterate_interruptibly(islice(_iterate_simulated_bugs(problem, bug), _MAX_CANDIDATES)):
        made = True
        wrong = judge.with_candidate(each.candidates)
        if each.explanation in found or (explanation := _explain_if_named(wrong, each, routes.evaluations)) is None:
            continue
        room -= sum(gradient.size for gradient in each.candidates.values())
        if room < 0 and found:
            break
        candidate = {
            name: encode_tensor(gradient, problem.request.encoding) for name, gradient in each.candidates.items()
        }
        found[each.explanation] = {**_build_entry(each), "explanation": explanation, "candidate": candidate}
    if not found:
        raise InvalidRequestError([error_at(_describe_impossible_bug(problem, bug, was_made=made), "bug")])
    return list(found.values())


def _explain_if_named(judge: Judge, simulated: InjectedBug, evaluations: int) -> str | None:
    """What a check would say of the bug by its name; None where it would not name it, or not fail."""
    verdicts = {name: judge.verdict(name) for name in simulated.candidates}
    if any(verdict.outcome != Outcome.FAIL for verdict in verdicts.values()):
        return None
    named = diagnose_failures(judge.problem, judge, verdicts, evaluations)
    said = [
        [one.explanation for one in named.get(name, ()) if one.bug_name == simulated.bug_name]
        for name in simulated.candidates
    ]
    return said[0][0] if all(said) else None


def _describe_impossible_bug(problem: Problem, bug: str, was_made: bool) -> str:
    possible = list(dict.fromkeys(each.bug_name for each in _drop_duplicates(_iterate_simulated_bugs(problem))))
    why = "would not be told from a right gradient or from another bug" if was_made else "cannot be made"
    return f"{quote_name(bug)} {why} in this model at this point; those that can: {', '.join(possible) or 'none'}"
