"""Forms of points and outputs: one array, a tuple of arrays, or a mapping of names to arrays.

A tensor has a name on the wire in every form. In the form of the caller it has the library, the datatype and the device
of the caller's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from gradcheckd.arrays import BY_NAME, Array, TypedTensor, is_array, to_tensor
from gradcheckd.errors import TensorError, hide_frames

__tracebackhide__ = hide_frames

FormKind = Literal["array", "tuple", "mapping"]
POINT_NAME, OUTPUT_NAME = "x", "y"
"""Names of a tensor of the point, and of an output, that came without a name."""
_POINT_REMEDY = (
    "Convert it, for instance with .astype('float64'), or leave it out of the point and have the function capture it."
)
_OUTPUT_REMEDY = "Leave it out of the result of the function."
_FP64 = BY_NAME["FP64"]
_POINT_PREFIX, _OUTPUT_PREFIX = "input", "output"


@dataclass(frozen=True)
class TensorForm:
    """The form in which a caller holds tensors.

    Attributes
    ----------
    kind
        One array, a tuple of arrays, or a mapping of names to arrays.
    originals
        Tensors of the caller by name, in order.
    tensors
        The same for the wire.
    """

    kind: FormKind
    originals: Mapping[str, Any]
    tensors: Mapping[str, TypedTensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes by name."""
        return {name: tensor.array.shape for name, tensor in self.tensors.items()}

    def assemble(self, items: Mapping[str, Any]) -> Any:
        """Return items by name in this form."""
        if self.kind == "array":
            return items[next(iter(self.originals))]
        ordered = {name: items[name] for name in self.originals}
        return tuple(ordered.values()) if self.kind == "tuple" else ordered

    def restore(self, arrays: Mapping[str, Array], restore_tensor: Callable[[Any, Array], Any]) -> Any:
        """Return arrays by name in this form, each restored beside the caller's tensor of its name."""
        return self.assemble({name: restore_tensor(self.originals[name], arrays[name]) for name in self.originals})

    def copy(self) -> Any:
        """Return a copy of the caller's tensors in this form."""
        return self.assemble({name: _copy_tensor(original) for name, original in self.originals.items()})

    def flatten(self, value: Any, subject: str) -> dict[str, Any]:
        """Return the items of a value in this form by name; a mapping of the names serves for each form.

        Raises
        ------
        TensorError
            The value has another form.
        """
        if self.has_names(value):
            return {name: cast("Mapping[str, Any]", value)[name] for name in self.originals}
        if self.kind == "mapping":
            raise TensorError(f"{subject} {describe_form(value)}; expected a mapping with {self._list_names()}.")
        if self.kind == "array":
            # Functions for gradients of torch return a tuple of one.
            single = isinstance(value, tuple) and len(cast("tuple[Any, ...]", value)) == 1
            return {next(iter(self.originals)): value[0] if single else value}
        if not isinstance(value, list | tuple) or len(cast("Sequence[Any]", value)) != len(self.originals):
            raise TensorError(
                f"{subject} {describe_form(cast('object', value))}; expected a tuple of {len(self.originals)} arrays."
            )
        return dict(zip(self.originals, cast("Sequence[Any]", value), strict=True))

    def has_names(self, value: object) -> bool:
        """Tell whether a value is a mapping of exactly the names of this form."""
        # To ask whether an array is a mapping takes as long as a small function of a caller.
        return (
            type(value) is not np.ndarray
            and isinstance(value, Mapping)
            and cast("Mapping[object, Any]", value).keys() == self.originals.keys()
        )

    def _list_names(self) -> str:
        return ", ".join(map(repr, self.originals))


def read_point(point: Any) -> TensorForm:
    """Read a point: an array, a tuple or list of arrays, or a mapping of names to arrays.

    Raises
    ------
    TensorError
        A tensor cannot be sent, or has no floats.
    """
    kind: FormKind
    originals: dict[str, Any]
    if isinstance(point, Mapping):
        kind, originals = "mapping", _check_names(cast("Mapping[Any, Any]", point), "The point")
    elif isinstance(point, list | tuple) and _holds_tensors(cast("Sequence[Any]", point)):
        kind, originals = "tuple", _number_items(cast("Sequence[Any]", point), _POINT_PREFIX)
    else:
        kind, originals = "array", {POINT_NAME: cast("Any", point)}
    if not originals:
        raise TensorError("The point has no tensor. Give an array, a tuple of arrays, or a mapping of names to arrays.")
    return TensorForm(
        kind,
        originals,
        {name: read_floats(value, f"point {name!r}", _POINT_REMEDY) for name, value in originals.items()},
    )


def read_outputs(outputs: Any) -> TensorForm:
    """Read the outputs of a function: an array or a number, a tuple, a list of arrays, or a mapping.

    Raises
    ------
    TensorError
        An output is no array of floats.
    """
    kind: FormKind
    originals: dict[str, Any]
    if isinstance(outputs, Mapping):
        kind, originals = "mapping", _check_names(cast("Mapping[Any, Any]", outputs), "The result of the function")
    elif isinstance(outputs, tuple) or (isinstance(outputs, list) and _holds_tensors(cast("Sequence[Any]", outputs))):
        kind, originals = "tuple", _number_items(cast("Sequence[Any]", outputs), _OUTPUT_PREFIX)
    else:
        kind, originals = "array", {OUTPUT_NAME: cast("Any", outputs)}
    if not originals:
        raise TensorError("The function returned no output. Return an array, a tuple, or a mapping of names to arrays.")
    return TensorForm(kind, originals, {name: read_output(value, name) for name, value in originals.items()})


def read_output(value: Any, name: str) -> TypedTensor:
    """Read one output for the wire, a copy of it.

    Raises
    ------
    TensorError
        The output is no array of floats.
    """
    if type(value) is np.ndarray and value.dtype == _FP64.storage_dtype:
        # What most functions return, as fast as they are themselves.
        return TypedTensor(_FP64, np.array(value, order="C"))
    tensor = read_floats(value, f"output {name!r}", _OUTPUT_REMEDY)
    # A function may return the same memory each time.
    return TypedTensor(tensor.datatype, np.array(tensor.array))


def read_floats(value: Any, subject: str, remedy: str) -> TypedTensor:
    """Read an array of floats for the wire; numbers and lists of them become float64.

    Raises
    ------
    TensorError
        The value is None, or an array of integers or Booleans.
    """
    if value is None:
        raise TensorError(f"{subject} is None. {remedy}")
    tensor = to_tensor(value, subject)
    if isinstance(tensor, TypedTensor) and tensor.datatype.storage_dtype.kind == "f":
        return tensor
    if not isinstance(tensor, TypedTensor):
        try:
            return cast("TypedTensor", to_tensor(np.asarray(tensor.value, np.float64), subject))
        except ValueError:
            raise TensorError(f"{subject}: its lists do not have one length. Give an array.") from None
    if tensor.datatype.name.startswith(("INT", "BOOL")):
        raise TensorError(f"{subject}: its datatype is {tensor.datatype.name}, and derivatives need floats. {remedy}")
    return tensor


def _check_names(mapping: Mapping[Any, Any], subject: str) -> dict[str, Any]:
    for name in mapping:
        if not isinstance(name, str):
            raise TensorError(f"{subject} is a mapping of names to arrays; as a name {name!r} was given.")
    return dict(mapping)


def _holds_tensors(items: Sequence[Any]) -> bool:
    """Tell whether a list or tuple has arrays, or nothing, not numbers; the numbers of NumPy are numbers."""
    return not items or any(
        isinstance(item, Mapping)
        or (is_array(item) and not isinstance(item, np.generic))
        or (isinstance(item, list | tuple) and _holds_tensors(cast("Sequence[Any]", item)))
        for item in items
    )


def _number_items(items: Sequence[Any], prefix: str) -> dict[str, Any]:
    for number, item in enumerate(items):
        if isinstance(item, Mapping) or (
            isinstance(item, list | tuple) and _holds_tensors(cast("Sequence[Any]", item))
        ):
            raise TensorError(
                f"{prefix} {number} is a {type(cast('Any', item)).__qualname__} of arrays within a tuple. Give one "
                "tuple, or one mapping of names, with all arrays side by side."
            )
    return {f"{prefix}{number}": item for number, item in enumerate(items)}


def restore_point_tensor(original: Any, array: Array) -> Any:
    """Return one tensor of a point as the caller's: a tensor of torch, or else a writable array of NumPy."""
    if not _is_torch(original):
        return np.array(array)
    # A new scalar instead of the original: one of torch that is negated or has no memory makes no tensors.
    return original.new_zeros(()).new_tensor(array, requires_grad=original.requires_grad)


def restore_direction(original: Any, array: Array) -> Any:
    """Return a tangent or a cotangent in the library and the datatype of its tensor."""
    if _is_torch(original):
        return original.new_zeros(()).new_tensor(array)
    return np.array(array, original.dtype if is_array(original) else np.float64)


def _copy_tensor(original: Any) -> Any:
    if _is_torch(original):
        return original.detach().clone().requires_grad_(original.requires_grad)
    if isinstance(original, np.ndarray):
        return np.array(cast("Array", original), order="K")
    # Arrays of other libraries, as those of jax, are immutable.
    return original if is_array(original) else np.array(original, np.float64)


def _is_torch(value: object) -> bool:
    return hasattr(value, "new_tensor")


def describe_form(value: object) -> str:
    """Return the form of a value in words."""
    if isinstance(value, Mapping):
        return f"has the names {', '.join(map(repr, cast('Mapping[object, Any]', value))) or '(none)'}"
    if isinstance(value, list | tuple):
        return f"is a {type(cast('Any', value)).__qualname__} of {len(cast('Sequence[Any]', value))}"
    return "is None" if value is None else f"is one {type(value).__qualname__}"
