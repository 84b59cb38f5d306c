"""`POST /v1/bugs`: which bugs a model can have, and what they make of its gradients. Knows no Flask."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from schemas.bugs import BugsAnswer, BugsRequest, CatalogueOfBugs, PlantedBug
from schemas.check import NodeBase
from schemas.problem import InvalidRequestError, placed, shown, unknown
from schemas.tensor import encode
from service.checking import language
from service.checking.asked import asked
from service.checking.budget import planned
from service.checking.deadline import Clock, clock_of
from service.checking.diagnosing import diagnosed, scene_of
from service.checking.differentiating import differentiated
from service.checking.fitting import SMALLER
from service.checking.judge import Judge, Routes
from service.checking.question import Limits, Problem
from service.checking.stopwatch import Stopwatch
from service.numerics import faults
from service.numerics.faults import Planted
from service.numerics.gradients.finite_difference import Plan
from service.numerics.outcome import Outcome
from service.numerics.pausing import pausing

_REMEDY, _PLANTING = "Name fewer tensors, or take a smaller model", "bugs were being planted"
_OF_AN_ELEMENT = 256
"""Bytes of what a check may take that there have to be for each element of the candidates of an answer."""
_TRIED = 50
"""Most candidates that are judged to find those that a check would name."""


def catalogue() -> CatalogueOfBugs:
    """Every bug that a check names."""
    return {"bugs": [{"name": name, "explanation": text} for name, text in faults.catalogue().items()]}


def bugs(body: object, limits: Limits | None = None) -> BugsAnswer:
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
    clock = clock_of(limits.seconds)
    with clock.watching():
        with clock.refusing(SMALLER, "with_respect_to"):
            request, problem = asked(body, limits, _read)
        problem = problem.with_candidate({})
        with clock.refusing(_REMEDY, "with_respect_to"):
            with clock.during("the differences were being planned"):
                plan = planned(problem, limits)
            # Overflow and NaN are findings here.
            with np.errstate(all="ignore"):
                return {"bugs": _answered(problem, plan, request.bug, limits, clock)}


def _answered(problem: Problem, plan: Plan, bug: str | None, limits: Limits, clock: Clock) -> list[PlantedBug]:
    if bug is None:
        with clock.during(_PLANTING):
            return [_entry(each) for each in _each_once(_planted(problem))]
    routes = differentiated(problem, plan, Stopwatch(), limits)
    with clock.during(_PLANTING):
        return _named(problem, routes, bug, limits)


def _read(body: object) -> BugsRequest[NodeBase]:
    request, known = language.parsed_bugs(body), list(faults.catalogue())
    if request.bug is not None and request.bug not in known:
        raise InvalidRequestError([placed(unknown("bug", request.bug, known), "bug")])
    return request


def _planted(problem: Problem, bug: str | None = None) -> Iterator[Planted]:
    scene = scene_of(problem)
    right = {name: scene.right(name) for name in problem.names}
    precisions = {name: problem.with_candidate(right).precision(name) for name in right}
    return pausing(faults.planted(replace(scene, candidates=right, precisions=precisions), problem.names, bug))


def _each_once(found: Iterable[Planted]) -> Iterator[Planted]:
    """Of ways to make a bug that are told in the same words, the first."""
    told = set[tuple[str, str]]()
    for each in found:
        # One after the other: each has gradients of its own.
        if (each.fault, each.text) not in told:
            told.add((each.fault, each.text))
            yield each


def _entry(each: Planted) -> PlantedBug:
    return {"name": each.fault, "tensor": next(iter(each.candidate)), "explanation": each.text}


def _named(problem: Problem, routes: Routes, bug: str, limits: Limits) -> list[PlantedBug]:
    """What the bug makes, where a check would fail it by its name."""
    judge = Judge(problem, routes)
    found, made = dict[str, PlantedBug](), False
    room = min(limits.elements, limits.bytes // _OF_AN_ELEMENT)
    for each in pausing(islice(_planted(problem, bug), _TRIED)):
        made = True
        wrong = judge.with_candidate(each.candidate)
        if each.text in found or (explanation := _explained(wrong, each, routes.evaluations)) is None:
            continue
        room -= sum(gradient.size for gradient in each.candidate.values())
        if room < 0 and found:
            break
        candidate = {name: encode(gradient, problem.request.encoding) for name, gradient in each.candidate.items()}
        found[each.text] = {**_entry(each), "explanation": explanation, "candidate": candidate}
    if not found:
        raise InvalidRequestError([placed(_impossible(problem, bug, made=made), "bug")])
    return list(found.values())


def _explained(judge: Judge, each: Planted, evaluations: int) -> str | None:
    """What a check would say of the bug by its name; None where it would not name it, or not fail."""
    verdicts = {name: judge.of(name) for name in each.candidate}
    if any(verdict.outcome != Outcome.FAIL for verdict in verdicts.values()):
        return None
    named = diagnosed(judge.problem, judge, verdicts, evaluations)
    said = [[one.explanation for one in named.get(name, ()) if one.name == each.fault] for name in each.candidate]
    return said[0][0] if all(said) else None


def _impossible(problem: Problem, bug: str, made: bool) -> str:
    possible = list(dict.fromkeys(each.fault for each in _each_once(_planted(problem))))
    why = "would not be told from a right gradient or from another bug" if made else "cannot be made"
    return f"{shown(bug)} {why} in this model at this point; those that can: {', '.join(possible) or 'none'}"
