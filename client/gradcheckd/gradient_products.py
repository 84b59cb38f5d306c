"""Gradients and products of a caller, as arrays or as functions of the point: the candidate, VJPs, JVPs, Jacobians."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import Array, is_array
from gradcheckd.blackbox import PlannedPoints
from gradcheckd.errors import RequestError, hide_frames
from gradcheckd.function_evaluation import read_numbers, refuse_changes
from gradcheckd.function_forms import TensorForm, restore_direction
from gradcheckd.product_forms import (
    Product,
    read_by_output,
    read_gradient,
    read_jvp,
    read_product,
    refuse_none,
    stack_products,
)
from gradcheckd.wire import Section

__tracebackhide__ = hide_frames

COORDINATES = "coordinates"


@dataclass(frozen=True)
class GradientArguments:
    """The gradients that a caller gave, each an array in some form, a function, or None.

    Parameters
    ----------
    candidate
        Gradient of a function that returns one number.
    vjp, jvp, jacobian
        Vector-Jacobian products, Jacobian-vector products, and Jacobian of a function with outputs.

    Raises
    ------
    RequestError
        Two of them exclude each other.
    """

    candidate: Any = None
    vjp: Any = None
    jvp: Any = None
    jacobian: Any = None

    def __post_init__(self) -> None:
        if self.candidate is not None and not (self.vjp is self.jvp is self.jacobian is None):
            raise RequestError(
                "candidate is the gradient of a function that returns one number. Give it alone, or give vjp, jvp or "
                "jacobian."
            )
        if self.vjp is not None and self.jacobian is not None:
            raise RequestError("vjp and jacobian are judged one at a time. Call the check once with each.")

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was given."""
        return self.candidate is self.vjp is self.jvp is self.jacobian is None

    @property
    def needs_coordinates(self) -> bool:
        """Tell whether only directions of single elements fit: there are entries of a Jacobian, or nothing to judge."""
        return self.jacobian is not None or self.is_empty

    def choose_directions(self, directions: Any) -> Any:
        """Return the directions of a request, of a caller or by default.

        Raises
        ------
        RequestError
            These directions do not fit to the gradients.
        """
        if directions is None:
            return {"kind": COORDINATES} if self.needs_coordinates else None
        spec = {"kind": directions} if isinstance(directions, str) else directions
        kind = cast("Mapping[str, Any]", spec).get("kind") if isinstance(spec, Mapping) else None
        if self.needs_coordinates and kind != COORDINATES:
            subject = "derivatives have" if self.is_empty else "a jacobian has"
            raise RequestError(f'directions={directions!r} was given, but {subject} directions="coordinates".')
        return cast("Any", spec)

    def refuse_unfit_arrays(self, directions: Any, cotangents: Any) -> None:
        """Refuse arrays of products whose directions or cotangents the caller cannot know.

        Raises
        ------
        RequestError
            VJPs without cotangents, or JVPs along other directions than all elements.
        """
        if self.vjp is not None and not _is_function(self.vjp) and cotangents is None:
            raise RequestError("vjp was given as arrays. Give the cotangents that they belong to, too: cotangents=...")
        if self.jvp is not None and not _is_function(self.jvp) and directions != {"kind": COORDINATES}:
            raise RequestError(
                'jvp was given as arrays, which only directions="coordinates" can have. Give these, or jvp as a '
                "function jvp(point, tangents)."
            )

    def compute_products(
        self, point: TensorForm, outputs: TensorForm | None, plan: PlannedPoints
    ) -> dict[str, Section]:
        """Compute the gradients and products by field of the request for a judgement.

        Parameters
        ----------
        point, outputs
            Forms of the point, and of the outputs of a function that has some.
        plan
            Plan with cotangents and tangents.

        Raises
        ------
        TensorError
            One of them has another form than the point and the outputs.
        FunctionError
            A function changes its input.
        """
        if self.candidate is not None:
            value = _call_or_get(self.candidate, "candidate", point)
            return {"candidate": read_gradient(value, point, "The candidate", "candidate")}
        if outputs is None or self.is_empty:
            return {}
        products: dict[str, Section] = {}
        if self.vjp is not None:
            products["vjp"] = _compute_vjps(self.vjp, point, outputs, plan)
        if self.jvp is not None:
            products["jvp"] = _compute_jvps(self.jvp, point, outputs, plan)
        if self.jacobian is not None:
            value = _call_or_get(self.jacobian, "jacobian", point)
            products["jacobian"] = read_by_output(value, point, outputs, "jacobian")
        return products


def _is_function(value: object) -> bool:
    return callable(value) and not is_array(value)


def _call_or_get(value: Any, name: str, point: TensorForm) -> Any:
    return _call_unchanging(value, name, (point, point.copy())) if _is_function(value) else value


def _call_unchanging(function: Callable[..., Any], name: str, *arguments: tuple[TensorForm, Any]) -> Any:
    """Call a function of arguments in some forms, and refuse changes to them."""
    items = [form.flatten(argument, name) for form, argument in arguments]
    before = [{key: np.array(read_numbers(item)) for key, item in named.items()} for named in items]
    try:
        result = function(*(argument for _, argument in arguments))
    except Exception as error:
        error.add_note(f"gradcheckd: raised by {name}")
        raise
    for named, numbers in zip(items, before, strict=True):
        refuse_changes(named, numbers, f"{name} changed its input {{}} in place")
    return result


def _compute_vjps(
    vjp: Any, point: TensorForm, outputs: TensorForm, plan: PlannedPoints
) -> dict[str, dict[str, Product]]:
    """Compute the product of each output alone: in one product, an output could hide behind another."""
    if not _is_function(vjp):
        return read_by_output(vjp, point, outputs, "vjp")
    products: dict[str, dict[str, Product]] = {}
    for output in outputs.originals:
        cotangents = {
            name: array if name == output else np.zeros_like(array) for name, array in plan.cotangents.items()
        }
        argument = outputs.restore(cotangents, restore_direction)
        result = _call_unchanging(vjp, "vjp", (point, point.copy()), (outputs, argument))
        products[output] = read_gradient(result, point, f"The result of vjp for output {output!r}", f"vjp '{output}/")
    return products


def _compute_jvps(jvp: Any, point: TensorForm, outputs: TensorForm, plan: PlannedPoints) -> dict[str, Product]:
    if not _is_function(jvp):
        named = outputs.flatten(jvp, "jvp")
        return {name: read_product(value, f"jvp {name!r}", None) for name, value in named.items()}
    rows: dict[str, list[Product]] = {name: [] for name in outputs.originals}
    for number, tangents in enumerate(_list_tangents(point, plan)):
        argument = point.restore(tangents, restore_direction)
        result = _call_unchanging(jvp, "jvp", (point, point.copy()), (point, argument))
        refuse_none(result, "The result of jvp")
        for name, value in outputs.flatten(result, "The result of jvp").items():
            rows[name].append(read_jvp(value, name, number, outputs.tensors[name]))
    return {name: stack_products(products) for name, products in rows.items()}


def _list_tangents(point: TensorForm, plan: PlannedPoints) -> Iterator[dict[str, Array]]:
    """Yield the tangent of each direction, of which one tensor moves."""
    zeros = {name: np.zeros(shape) for name, shape in point.shapes.items()}
    for name in point.originals:
        for tangent in plan.tangents[name]:
            yield zeros | {name: tangent}
