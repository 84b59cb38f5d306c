"""A gradient as a function whose outputs have the form of its point, so that its derivative is a Hessian."""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradcheckd.arrays import TypedTensor, to_tensor
from gradcheckd.errors import TensorError, hide_frames
from gradcheckd.function_forms import TensorForm, read_point

__tracebackhide__ = hide_frames


def keep_point_form(gradient: Callable[..., Any], point: Any) -> Callable[..., Any]:
    """Return a gradient that returns the form of the point, or raises an error.

    Parameters
    ----------
    gradient
        Gradient of the caller, which may return a tuple of one for a point of one array.
    point
        Point of the caller.

    Raises
    ------
    TensorError
        The gradient is no function.
    """
    if not callable(gradient):
        raise TensorError(f"The gradient takes a point; {type(gradient).__qualname__} was given.")
    form = read_point(point)

    def compute_gradient(*arguments: Any) -> Any:
        result = gradient(*arguments)
        return None if result is None else form.assemble(_flatten_gradient(result, form))

    return compute_gradient


def _flatten_gradient(result: Any, form: TensorForm) -> dict[str, Any]:
    items = form.flatten(result, "The gradient")
    for name, item in items.items():
        tensor = to_tensor(item, f"gradient {name!r}")
        shape = np.shape(tensor.array if isinstance(tensor, TypedTensor) else tensor.value)
        if shape != form.shapes[name]:
            raise TensorError(
                f"The gradient of {name!r} has shape {list(shape)}; the point has shape {list(form.shapes[name])}. A "
                "Hessian needs a gradient of the shapes of the point."
            )
    return items
