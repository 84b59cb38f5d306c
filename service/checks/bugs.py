"""`POST /v1/bugs`: the bugs that a model can have, and the gradients that they make, without Flask."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from schemas.bugs import BugsAnswer, BugsRequest, CatalogueOfBugs, PlantedBug
from schemas.check import NodeBase
from schemas.problem_details import InvalidRequestError, describe_unknown, error_at, quote_name
from schemas.tensor import encode_tensor
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, Clock, current_clock
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.cost_estimate import CheckPlan
from service.checks.graph.diagnosis import build_context, diagnose_failures
from service.checks.graph.gradients import compute_gradients
from service.checks.graph.judge import GradientSources, Judge
from service.checks.graph.parse import parse_problem
from service.checks.graph.problem import Problem
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis.inject import InjectedBug, describe_bugs, inject_bugs
from service.numerics.verdict.outcome import Outcome

_REMEDY, _SIMULATION_STAGE = "Name fewer tensors, or take a smaller model", "bugs were being planted"
_BYTES_PER_ELEMENT = 256
"""Bytes of the limit of memory for each element of the candidates of an answer."""
_MAX_CANDIDATES = 50
"""Most candidates that are judged to find those with a bug that a check names."""


def list_bugs() -> CatalogueOfBugs:
    """Return every bug that a check names, with its explanation."""
    return {"bugs": [{"name": name, "explanation": text} for name, text in describe_bugs().items()]}


def simulate_bugs(body: object, limits: Limits | None = None) -> BugsAnswer:
    """List the bugs that a model can have, or plant one of them.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    limits
        Limits of the request; the default limits if left out.

    Raises
    ------
    InvalidRequestError
        All errors of the request; an unknown bug, or one that the model cannot have.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline():
        with clock.refuse_on_timeout(SMALLER_MODEL_REMEDY, "with_respect_to"):
            request, problem = parse_problem(body, limits, _parse_request)
        problem = problem.with_candidate({}).without_joint_directions()
        with clock.refuse_on_timeout(_REMEDY, "with_respect_to"):
            with clock.name_stage("the differences were being planned"):
                plan = plan_within_limits(problem, limits)
            # Overflow and NaN are findings here.
            with np.errstate(all="ignore"):
                return {"bugs": _simulate_for_model(problem, plan, request.bug, limits, clock)}


def _simulate_for_model(
    problem: Problem, plan: CheckPlan, bug: str | None, limits: Limits, clock: Clock
) -> list[PlantedBug]:
    if bug is None:
        with clock.name_stage(_SIMULATION_STAGE):
            return [_build_entry(simulated_bug) for simulated_bug in _drop_duplicates(_iterate_simulated_bugs(problem))]
    routes = compute_gradients(problem, plan, StageTimer(), limits)
    with clock.name_stage(_SIMULATION_STAGE):
        return _simulate_named_bug(problem, routes, bug, limits)


def _parse_request(body: object) -> BugsRequest[NodeBase]:
    request, known = model_language.parse_bugs_request(body), list(describe_bugs())
    if request.bug is not None and request.bug not in known:
        raise InvalidRequestError([error_at(describe_unknown("bug", request.bug, known), "bug")])
    return request


def _iterate_simulated_bugs(problem: Problem, bug: str | None = None) -> Iterator[InjectedBug]:
    context = build_context(problem)
    right = {name: context.get_right_gradient(name) for name in problem.names}
    precisions = {name: problem.with_candidate(right).get_precision(name) for name in right}
    return iterate_interruptibly(
        inject_bugs(replace(context, candidates=right, precisions=precisions), problem.names, bug)
    )


def _drop_duplicates(bugs_made: Iterable[InjectedBug]) -> Iterator[InjectedBug]:
    """Yield the first of the bugs with one name and one explanation."""
    known = set[tuple[str, str]]()
    for simulated_bug in bugs_made:
        # One after the other: each has gradients of its own.
        if (simulated_bug.bug_name, simulated_bug.explanation) not in known:
            known.add((simulated_bug.bug_name, simulated_bug.explanation))
            yield simulated_bug


def _build_entry(simulated: InjectedBug) -> PlantedBug:
    return {
        "name": simulated.bug_name,
        "tensor": next(iter(simulated.candidates)),
        "explanation": simulated.explanation,
    }


def _simulate_named_bug(problem: Problem, routes: GradientSources, bug: str, limits: Limits) -> list[PlantedBug]:
    """Return the candidates with a bug, of those that a check fails and names."""
    judge = Judge(problem, routes)
    planted_bugs, was_made = dict[str, PlantedBug](), False
    elements_left = min(limits.elements, limits.bytes // _BYTES_PER_ELEMENT)
    for simulated_bug in iterate_interruptibly(islice(_iterate_simulated_bugs(problem, bug), _MAX_CANDIDATES)):
        was_made = True
        if simulated_bug.explanation in planted_bugs:
            continue
        explanation = _explain_if_named(
            judge.with_candidate(simulated_bug.candidates), simulated_bug, routes.evaluations
        )
        if explanation is None:
            continue
        elements_left -= sum(gradient.size for gradient in simulated_bug.candidates.values())
        if elements_left < 0 and planted_bugs:
            break
        candidate = {
            name: encode_tensor(gradient, problem.request.encoding)
            for name, gradient in simulated_bug.candidates.items()
        }
        planted_bugs[simulated_bug.explanation] = {
            **_build_entry(simulated_bug),
            "explanation": explanation,
            "candidate": candidate,
        }
    if not planted_bugs:
        raise InvalidRequestError([error_at(_describe_impossible_bug(problem, bug, was_made=was_made), "bug")])
    return list(planted_bugs.values())


def _explain_if_named(judge: Judge, simulated: InjectedBug, evaluations: int) -> str | None:
    """Return the explanation of a check that fails and names the bug; None if it does not."""
    verdicts = {name: judge.verdict(name) for name in simulated.candidates}
    if any(verdict.outcome != Outcome.FAIL for verdict in verdicts.values()):
        return None
    diagnoses = diagnose_failures(judge.problem, judge, verdicts, evaluations)
    explanations = [
        [finding.explanation for finding in diagnoses.get(name, ()) if finding.bug_name == simulated.bug_name]
        for name in simulated.candidates
    ]
    return explanations[0][0] if all(explanations) else None


def _describe_impossible_bug(problem: Problem, bug: str, was_made: bool) -> str:
    possible_names = list(
        dict.fromkeys(simulated_bug.bug_name for simulated_bug in _drop_duplicates(_iterate_simulated_bugs(problem)))
    )
    reason = "would not be told from a right gradient or from another bug" if was_made else "cannot be made"
    return (
        f"{quote_name(bug)} {reason} in this model at this point; those that can: {', '.join(possible_names) or 'none'}"
    )
