"""A loss that only the caller can evaluate: plan, evaluate, judge."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradcheckd import wire
from gradcheckd.arrays import Array, Bare, Stored, number, tensor
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError, TensorError, hides
from gradcheckd.wire import JSON, SAFETENSORS

__tracebackhide__ = hides

Counted = Callable[[int, int], None]
"""Told of evaluations done, and of all that there are to be."""
ALONE = "x"
"""Name of a tensor that is given without one."""


@dataclass(frozen=True)
class Planned:
    """A plan, to be handed back as it came, and its points: by name, stacked along the first axis."""

    plan: Mapping[str, Any]
    evaluations: int
    points: Mapping[str, Array]


@dataclass(frozen=True)
class Question:
    """A loss, the point, and the gradient there, each tensor with a name."""

    loss: Callable[[Mapping[str, Any]], Any]
    point: Mapping[str, Any]
    gradient: Mapping[str, Any]

    @classmethod
    def of(cls, loss: Callable[[Any], Any], point: Any, gradient: Any) -> "Question":
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
        return cls(lambda named: loss(named[ALONE]), {ALONE: point}, {ALONE: found})


def planned(connection: Connection, point: Mapping[str, Any], fields: Mapping[str, Any]) -> Planned:
    """Ask where the loss is to be evaluated.

    Raises
    ------
    ProblemError
        The request is refused.
    """
    stored = {name: _floats(tensor(each, f"point {name!r}")) for name, each in point.items()}
    arrays, rest = wire.unpacked(connection.post("/v1/plan", wire.body(fields, {"point": stored}), SAFETENSORS))
    points = {name.removeprefix("points/"): array for name, array in arrays.items()}
    with wire.expected():
        return Planned(rest["plan"], rest["evaluations"], {name: points[name] for name in point})


def _floats(taken: Stored | Bare) -> Stored | Bare:
    # The points come back as arrays anyway.
    return tensor(np.asarray(taken.value, np.float64), "point") if isinstance(taken, Bare) else taken


def scales(given: Any, point: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far tensors are moved, as the request has it: by name, each a number or a tensor."""
    if given is None:
        return None
    named = cast("Mapping[str, Any]", given) if isinstance(given, Mapping) else dict.fromkeys(point, given)
    return {name: tensor(each, f"scale {name!r}").as_json() for name, each in named.items()}


def domains(given: Any, point: Mapping[str, Any], *, alone: bool) -> dict[str, Any] | None:
    """Bounds as the request has them: by name, each with `min`, `max` or both, numbers or tensors.

    Raises
    ------
    RequestError
        They are of another form.
    """
    if given is None:
        return None
    named: object = {ALONE: given} if alone else given
    sides = list(cast("Mapping[str, Any]", named).values()) if isinstance(named, Mapping) else [named]
    if not all(isinstance(each, Mapping) for each in sides):
        form = '{"min": 0, "max": 1}' if alone else f'{{{next(iter(point))!r}: {{"min": 0, "max": 1}}}}'
        raise RequestError(f"bounds have min, max or both, as in bounds={form}; {repr(given)[:40]} was given.")
    return {
        name: {side: tensor(bound, f"bounds {name!r}, {side}").as_json() for side, bound in each.items()}
        for name, each in cast("Mapping[str, Mapping[str, Any]]", named).items()
    }


def evaluated(question: Question, found: Planned, progress: Counted | None) -> list[float | str | None]:
    """Evaluate the loss at every point; None where it has no value.

    Raises
    ------
    Exception
        That of the loss, with a note of the point.
    TensorError
        The loss returned something else than one number, or than None away from the base.
    """
    losses: list[float | str | None] = []
    for at in range(found.evaluations):
        point = {name: _like(each, found.points[name][at]) for name, each in question.point.items()}
        try:
            returned = question.loss(point)
        except Exception as error:
            error.add_note(f"gradcheckd: raised by the loss at point {at} of the {found.evaluations} of the plan")
            raise
        # The first is the base, where there is a value, or somebody forgot to return it.
        missing = returned is None and losses
        value = None if missing else tensor(number(returned, "The loss returned"), "loss")
        losses.append(value.value if isinstance(value, Bare) else None)
        if progress is not None:
            progress(at + 1, found.evaluations)
    return losses


def _like(given: Any, array: Array) -> Any:
    """A point as the caller gave it: a tensor of torch, or else an array of NumPy, which the loss may write to."""
    return given.new_tensor(array) if hasattr(given, "new_tensor") else np.array(array)


def judged(
    connection: Connection,
    found: Planned,
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
    taken = {name: tensor(each, f"gradient {name!r}") for name, each in gradient.items()}
    body = wire.body({"plan": found.plan, "losses": losses} | dict(fields), {"candidate": taken})
    return connection.post("/v1/judge", body, JSON), body
