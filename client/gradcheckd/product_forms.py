"""Gradients and products of a caller, read in the forms of outputs and point."""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import TypedTensor, UntypedTensor, to_tensor
from gradcheckd.errors import FunctionError, TensorError, hide_frames
from gradcheckd.function_forms import TensorForm, read_floats

__tracebackhide__ = hide_frames

Product = TypedTensor | UntypedTensor


def read_cotangents(cotangents: Any, outputs: TensorForm) -> dict[str, TypedTensor]:
    """Read the cotangents of a caller, in the form and the shapes of the outputs.

    Raises
    ------
    TensorError
        They have another form or another shape.
    """
    named = outputs.flatten(cotangents, "cotangents")
    tensors = {
        name: read_floats(value, f"cotangent {name!r}", "Give zeros of its shape.") for name, value in named.items()
    }
    for name, tensor in tensors.items():
        if tensor.array.shape != outputs.shapes[name]:
            raise TensorError(
                f"The cotangent of output {name!r} has shape {list(tensor.array.shape)}; the output has shape "
                f"{list(outputs.shapes[name])}. Give one number for each of its elements."
            )
    return tensors


def read_jvp(value: Any, name: str, number: int, output: TypedTensor) -> Product:
    """Read the Jacobian-vector product of one output along one direction.

    Raises
    ------
    FunctionError
        It has another shape than the output.
    """
    product = read_product(value, f"jvp {name!r}", output)
    shape = np.shape(product.array if isinstance(product, TypedTensor) else product.value)
    if shape != output.array.shape:
        raise FunctionError(
            f"jvp returned shape {list(shape)} for output {name!r} along direction {number}; the output has shape "
            f"{list(output.array.shape)}. Return one number for each of its elements."
        )
    return product


def stack_products(products: list[Product]) -> Product:
    """Stack products along a new first axis; numbers without a datatype stay so."""
    typed = [product for product in products if isinstance(product, TypedTensor)]
    if len(typed) == len(products) and len({tensor.datatype.name for tensor in typed}) == 1:
        return TypedTensor(typed[0].datatype, np.stack([tensor.array for tensor in typed]))
    return UntypedTensor([_drop_datatype(product).value for product in products])


def _drop_datatype(product: Product) -> UntypedTensor:
    if isinstance(product, UntypedTensor):
        return product
    numbers = to_tensor(product.datatype.from_storage(product.array).tolist(), "jvp")
    assert isinstance(numbers, UntypedTensor)
    return numbers


def read_by_output(value: Any, point: TensorForm, outputs: TensorForm, field: str) -> dict[str, dict[str, Product]]:
    """Read gradients by output: in the forms of outputs and point, or as mappings of both their names."""
    refuse_none(value, f"The {field}")
    return {
        output: read_gradient(part, point, f"The {field} of output {output!r}", f"{field} '{output}/")
        for output, part in _split_by_output(value, point, outputs, field).items()
    }


def _split_by_output(value: Any, point: TensorForm, outputs: TensorForm, field: str) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        named = cast("Mapping[str, Any]", value)
        if named and named.keys() <= outputs.originals.keys() and all(map(point.has_names, named.values())):
            return named
    return outputs.flatten(value, f"The {field}")


def read_gradient(value: Any, point: TensorForm, subject: str, field: str) -> dict[str, Product]:
    """Read a gradient in the form of the point; None among several tensors is zero, as autograd returns it."""
    refuse_none(value, subject)
    prefix = f"{field}" if field.endswith("/") else f"{field} '"
    return {
        name: read_product(item, f"{prefix}{name}'", point.tensors[name])
        for name, item in point.flatten(value, subject).items()
    }


def refuse_none(value: Any, subject: str) -> None:
    """Refuse None in place of a whole result.

    Raises
    ------
    TensorError
        The value is None.
    """
    if value is None:
        raise TensorError(
            f"{subject} is None. Does a function lack a return? A derivative of zero is an array of zeros."
        )


def read_product(value: Any, subject: str, zero_like: TypedTensor | None) -> Product:
    """Read one tensor of floats; None is zero in the shape of another tensor, if one is given.

    Raises
    ------
    TensorError
        The value cannot be sent, or has no floats.
    """
    if value is None and zero_like is not None:
        return TypedTensor(zero_like.datatype, np.zeros_like(zero_like.array))
    product = to_tensor(value, subject)
    if isinstance(product, TypedTensor) and product.datatype.name.startswith(("INT", "BOOL")):
        raise TensorError(
            f"{subject}: its datatype is {product.datatype.name}, and derivatives are floats. Convert it, for instance "
            "with .astype('float64')."
        )
    return product
