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
"""Called with the evaluations done, and the evaluations in all."""
UNNAMED_TENSOR = "x"
"""Name of a tensor that came without a name."""


@dataclass(frozen=True)
class PlannedPoints:
    """A plan, to return unchanged, and its points: by name, stacked along the first axis."""

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
        """Read a loss, a point and a gradient: of one tensor, or of many by name; the gradient may be a function.

        Raises
        ------
        TensorError
            Only one of point and gradient has names, or the loss is no function.
        """
        if not callable(loss):
            raise TensorError(f"The loss is a function of the point; {type(loss).__qualname__} was given.")
        gradient_value = gradient(point) if callable(gradient) and not hasattr(gradient, "__array__") else gradient
        if isinstance(point, Mapping) != isinstance(gradient_value, Mapping):
            raise TensorError(
                "Point and gradient are two arrays, or two mappings of names to arrays; "
                f"{type(point).__qualname__} and {type(gradient_value).__qualname__} were given."
            )
        if isinstance(point, Mapping):
            return cls(loss, cast("Mapping[str, Any]", point), cast("Mapping[str, Any]", gradient_value))
        return cls(
            lambda tensors: loss(tensors[UNNAMED_TENSOR]), {UNNAMED_TENSOR: point}, {UNNAMED_TENSOR: gradient_value}
        )


def request_plan(connection: Connection, point: Mapping[str, Any], fields: Mapping[str, Any]) -> PlannedPoints:
    """Request the points at which to evaluate the loss.

    Raises
    ------
    ProblemError
        The service refuses the request.
    """
    point_tensors = {name: _widen_to_floats(to_tensor(value, f"point {name!r}")) for name, value in point.items()}
    arrays, plan_answer = wire.read_safetensors_report(
        connection.post("/v1/plan", wire.encode_body(fields, {"point": point_tensors}), SAFETENSORS)
    )
    points = {name.removeprefix("points/"): array for name, array in arrays.items()}
    with wire.UnexpectedAnswerGuard():
        return PlannedPoints(plan_answer["plan"], plan_answer["evaluations"], {name: points[name] for name in point})


def _widen_to_floats(value: TypedTensor | UntypedTensor) -> TypedTensor | UntypedTensor:
    # The points come back as arrays in any case.
    return to_tensor(np.asarray(value.value, np.float64), "point") if isinstance(value, UntypedTensor) else value


def encode_scales(scale: Any, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """Encode the scales of the moves for a request: by name, each a number or a tensor."""
    if scale is None:
        return None
    scale_by_name = cast("Mapping[str, Any]", scale) if isinstance(scale, Mapping) else dict.fromkeys(point, scale)
    return {name: to_tensor(value, f"scale {name!r}").as_json() for name, value in scale_by_name.items()}


def encode_bounds(bounds: Any, point: Mapping[str, Any], *, unnamed: bool) -> dict[str, Any] | None:
    """Encode bounds for a request: by name, each with `min`, `max` or both, numbers or tensors.

    Raises
    ------
    RequestError
        The bounds have another form.
    """
    if bounds is None:
        return None
    bounds_by_name: object = {UNNAMED_TENSOR: bounds} if unnamed else bounds
    sides = (
        list(cast("Mapping[str, Any]", bounds_by_name).values())
        if isinstance(bounds_by_name, Mapping)
        else [bounds_by_name]
    )
    if not all(isinstance(side, Mapping) for side in sides):
        example = '{"min": 0, "max": 1}' if unnamed else f'{{{next(iter(point))!r}: {{"min": 0, "max": 1}}}}'
        raise RequestError(f"bounds have min, max or both, as in bounds={example}; {repr(bounds)[:40]} was given.")
    return {
        name: {side: to_tensor(bound, f"bounds {name!r}, {side}").as_json() for side, bound in sides.items()}
        for name, sides in cast("Mapping[str, Mapping[str, Any]]", bounds_by_name).items()
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
        The loss returned neither a number nor, away from the base, None.
    """
    losses: list[float | str | None] = []
    for index in range(plan.evaluations):
        point = {name: _restore_form(value, plan.points[name][index]) for name, value in problem.point.items()}
        try:
            result = problem.loss(point)
        except Exception as error:
            error.add_note(f"gradcheckd: raised by the loss at point {index} of the {plan.evaluations} of the plan")
            raise
        # The first point is the base: None there means that somebody forgot to return the loss.
        is_missing = result is None and losses
        loss = None if is_missing else to_tensor(to_number(result, "The loss returned"), "loss")
        losses.append(loss.value if isinstance(loss, UntypedTensor) else None)
        if progress is not None:
            progress(index + 1, plan.evaluations)
    return losses


def _restore_form(original: Any, array: Array) -> Any:
    """Return a point in the form of the caller's: a tensor of torch, or else a writable array of NumPy."""
    return original.new_tensor(array) if hasattr(original, "new_tensor") else np.array(array)


def request_judgement(
    connection: Connection,
    plan: PlannedPoints,
    losses: list[float | str | None],
    gradient: Mapping[str, Any],
    fields: Mapping[str, Any],
) -> tuple[bytes, wire.Body]:
    """Request the judgement by the losses; return the answer in JSON and the request's body.

    Raises
    ------
    ProblemError
        The service refuses the request: a loss is not finite, a shape does not fit.
    """
    gradient_tensors = {name: to_tensor(value, f"gradient {name!r}") for name, value in gradient.items()}
    body = wire.encode_body({"plan": plan.plan, "losses": losses} | dict(fields), {"candidate": gradient_tensors})
    return connection.post("/v1/judge", body, JSON), body
