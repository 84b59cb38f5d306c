"""`POST /v1/judge`: plan, losses and candidate to a report. Knows no Flask."""

from collections.abc import Iterator, Mapping

from schemas.plan import JudgeReport
from schemas.problem import InvalidRequestError, PlacedError, placed, shown
from schemas.tensor import Tensor
from service.blackbox import language
from service.blackbox.answer import report
from service.blackbox.evaluated import evaluated
from service.blackbox.posing import BINARY, Posed
from service.blackbox.sealing import opened
from service.checking.deadline import Clock, clock_of
from service.checking.question import Limits, precision_of
from service.numerics.blackbox import judging
from service.numerics.precision import PRECISIONS
from service.numerics.reference import Tolerance


def judge(body: object, limits: Limits | None = None) -> JudgeReport:
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
        With all that is wrong with it.
    """
    limits = limits or Limits()
    clock = clock_of(limits.seconds)
    with clock.watching(), clock.refusing("Plan fewer directions", "plan"):
        return _judged(body, limits, clock)


def _judged(body: object, limits: Limits, clock: Clock) -> JudgeReport:
    request = language.parsed_judgement(body, limits)
    found = opened(request.plan, limits, BINARY)
    if errors := [*_candidate_errors(request.candidate, found)]:
        raise InvalidRequestError(errors)
    losses = evaluated(request.losses, found.layout)
    candidates = {name: each.array for name, each in request.candidate.items()}
    precisions = {
        name: precision_of(each, request.candidate_dtype, PRECISIONS[found.datatypes[name].name])
        for name, each in request.candidate.items()
    }
    given = request.tolerance
    tolerance = None if given is None else Tolerance(given.rtol, given.atol)
    with clock.during("the candidate was being judged"):
        noise, judged = judging.judge(found.layout, losses, candidates, precisions, request.relative_error, tolerance)
    return report(found.layout, losses, noise, judged, request.relative_error)


def _candidate_errors(candidate: Mapping[str, Tensor], found: Posed) -> Iterator[PlacedError]:
    points = found.layout.points
    for name in points.keys() - candidate.keys():
        yield placed("is missing: the plan moves this tensor too", "candidate", name)
    for name, tensor in candidate.items():
        if name not in points:
            others = ", ".join(map(shown, list(points)[:20]))
            yield placed(f"there is no tensor {shown(name)} in the plan; there are: {others}", "candidate", name)
        elif tensor.datatype is not None and tensor.datatype.kind != "float":
            yield placed(f"a gradient is of floats; datatype {tensor.datatype.name} was given", "candidate", name)
        elif tensor.array.shape != points[name].values.shape:
            shapes = f"{list(tensor.array.shape)}; the point has {list(points[name].values.shape)}"
            yield placed(f"its shape is {shapes}", "candidate", name)
