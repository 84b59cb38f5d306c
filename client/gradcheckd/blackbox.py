"""A loss that only the caller can evaluate: plan, evaluate, judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradcheckd import wire
from gradcheckd.arrays import Array, TypedTensor, UntypedTensor, to_number, to_tensor
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError, TensorError, hide_frames
from gradcheckd.wire import JSON, SAFETENSORS

__tracebackhide__ = hide_frames

EvaluationProgress = Callable[[int, int], None]
"""Told of evaluations done, and of all that there are to be."""
UNNAMED_TENSOR = "x"
"""Name of a tensor that is given without one."""


@dataclass(frozen=True)
class PlannedPoints:
    """A plan, to be handed back as it came, and its points: by name, stacked along the first axis."""

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Array]


@dataclass(frozen=True)
class FunctionProblem:
    """A loss, the point, and the gradient there, each tensor with a name."""

    loss: Callable[[Mapping[str, Any]], Any]
    point: Mapping[str, Any]
    gradient: Mapping[str, Any]

    @classmethod
    def from_arguments(cls, loss: Callable[[Any], Any], point: Any, gradient: Any) -> "FunctionProblem":
        """Read what a caller gives: of one tensor without a name, or of many by name; the gradient may be a function.

        Raises
        ------
        TensorError
            Of point and gradient only one has names, or the loss is no function.
        """
        if not callable(loss):
            raise TensorError(f"The loss is a function of the point; {type(loss).__qualname__} was given.")
        found = gradient(point) if callable(gradient) and not hasattr(gradient, "__array__") else gradient
        if isinstance(point, Mapping) != isinstance(found, Mapping):
            raise TensorError(
                "Point and gradient are two arrays, or two mappings of names to arrays; "
                f"{type(point).__qualname__} and {type(found).__qualname__} were given."
            )
        if isinstance(point, Mapping):
            return cls(loss, cast("Mapping[str, Any]", point), cast("Mapping[str, Any]", found))
        return cls(lambda named: loss(named[UNNAMED_TENSOR]), {UNNAMED_TENSOR: point}, {UNNAMED_TENSOR: found})


def request_plan(connection: Connection, point: Mapping[str, Any], fields: Mapping[str, Any]) -> PlannedPoints:
    """Ask where the loss is to be evaluated.

    Raises
    ------
    ProblemError
        The request is refused.
    """
    stored = {name: _widen_to_floats(to_tensor(each, f"point {name!r}")) for name, each in point.items()}
    arrays, rest = wire.read_safetensors_report(
        connection.post("/v1/plan", wire.encode_body(fields, {"point": stored}), SAFETENSORS)
    )
    points = {name.removeprefix("points/"): array for name, array in arrays.items()}
    with wire.UnexpectedAnswerGuard():
        return PlannedPoints(rest["plan"], rest["evaluations"], {name: points[name] for name in point})


def _widen_to_floats(value: TypedTensor | UntypedTensor) -> TypedTensor | UntypedTensor:
    # The points come back as arrays anyway.
    return to_tensor(np.asarray(value.value, np.float64), "point") if isinstance(value, UntypedTensor) else value


def encode_scales(scale: Any, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far tensors are moved, as the request has it: by name, each a number or a tensor."""
    if scale is None:
        return None
    named = cast("Mapping[str, Any]", scale) if isinstance(scale, Mapping) else dict.fromkeys(point, scale)
    return {name: to_tensor(each, f"scale {name!r}").as_json() for name, each in named.items()}


def encode_bounds(bounds: Any, point: Mapping[str, Any], *, unnamed: bool) -> dict[str, Any] | None:
    """Bounds as the request has them: by name, each with `min`, `max` or both, numbers or tensors.

    Raises
    ------
    RequestError
        They are of another form.
    """
    if bounds is None:
        return None
    named: object = {UNNAMED_TENSOR: bounds} if unnamed else bounds
    sides = list(cast("Mapping[str, Any]", named).values()) if isinstance(named, Mapping) else [named]
    if not all(isinstance(each, Mapping) for each in sides):
        form = '{"min": 0, "max": 1}' if unnamed else f'{{{next(iter(point))!r}: {{"min": 0, "max": 1}}}}'
        raise RequestError(f"bounds have min, max or both, as in bounds={form}; {repr(bounds)[:40]} was given.")
    return {
        name: {side: to_tensor(bound, f"bounds {name!r}, {side}").as_json() for side, bound in each.items()}
        for name, each in cast("Mapping[str, Mapping[str, Any]]", named).items()
    }


def evaluate_losses(
    problem: FunctionProblem, plan: PlannedPoints, progress: EvaluationProgress | None
) -> list[float | str | None]:
    """Evaluate the loss at every point; None where it has no value.

    Raises
    ------
    Exception
        That of the loss, with a note of the point.
    TensorError
        The loss returned something else than one number, or than None away from the base.
    """
    losses: list[float | str | None] = []
    for at in range(plan.evaluations):
        point = {name: _restore_form(each, plan.points[name][at]) for name, each in problem.point.items()}
        try:
            returned = problem.loss(point)
        except Exception as error:
            error.add_note(f"gradcheckd: raised by the loss at point {at} of the {plan.evaluations} of the plan")
            raise
        # The first is the base, where there is a value, or somebody forgot to return it.
        missing = returned is None and losses
        value = None if missing else to_tensor(to_number(returned, "The loss returned"), "loss")
        losses.append(value.value if isinstance(value, UntypedTensor) else None)
        if progress is not None:
            progress(at + 1, plan.evaluations)
    return losses


def _restore_form(original: Any, array: Array) -> Any:
    """A point as the caller gave it: a tensor of torch, or else an array of NumPy, which the loss may write to."""
    return original.new_tensor(array) if hasattr(original, "new_tensor") else np.array(array)


def request_judgement(
    connection: Connection,
    plan: PlannedPoints,
    losses: list[float | str | None],
    gradient: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> tuple[bytes, wire.Body]:
    """Ask what follows from the losses; the answer in JSON, and the body that it answers.

    Raises
    ------
    ProblemError
        The request is refused: a loss is not finite, a shape does not fit.
    """
    taken = {name: to_tensor(each, f"gradient {name!r}") for name, each in gradient.items()}
    body = wire.encode_body({"plan": plan.plan, "losses": losses} | dict(fields), {"candidate": taken})
    return connection.post("/v1/judge", body, JSON), body
