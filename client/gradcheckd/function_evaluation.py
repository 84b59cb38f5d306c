"""Values of a caller's function at the points of a plan, and the mistakes that a function makes there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import BY_NAME, Array, Datatype, TypedTensor, UntypedTensor, to_number, to_tensor
from gradcheckd.errors import FunctionError, TensorError, describe_exception, hide_frames
from gradcheckd.function_forms import TensorForm, read_output, read_outputs, restore_point_tensor

__tracebackhide__ = hide_frames

EvaluationProgress = Callable[[int, int], None]
"""Called with the evaluations done, and the evaluations in all."""
MissingValue = tuple[int, Exception]
"""Number of a point, and the exception of the function there."""
BASE_REPEATS = 3
"""Points at the beginning of a plan that are the base."""
_BFLOAT16_NAN_BITS = 0x7FC0
Loss = float | str | None
Outputs = Mapping[str, TypedTensor | None]


@dataclass(frozen=True)
class PointValues:
    """Values of a function at the points of a plan, in order, and its exceptions.

    Attributes
    ----------
    losses
        Numbers of a function with one number: None without a value, a spelling where it is not finite.
    outputs
        Tensors of a function with outputs, by name, shape (points, *output); NaN without a value.
    exceptions
        Exceptions with the numbers of their points.
    """

    losses: list[Loss]
    outputs: dict[str, TypedTensor]
    exceptions: tuple[MissingValue, ...]

    def __len__(self) -> int:
        return len(next(iter(self.outputs.values())).array) if self.outputs else len(self.losses)

    def append(self, further: "PointValues") -> "PointValues":
        """Return these values, and then those at further points."""
        outputs = {name: _join_tensors(tensor, further.outputs[name]) for name, tensor in self.outputs.items()}
        return PointValues(self.losses + further.losses, outputs, self.exceptions + further.exceptions)


class FunctionEvaluator:
    """Evaluates a function, and keeps its outputs apart from what it may do wrong.

    Parameters
    ----------
    function
        Function of one array, of the arrays of a tuple, or of a mapping.
    point
        Point of the caller.
    is_loss
        True for a function that returns one number.

    Raises
    ------
    TensorError
        The function is none.
    """

    def __init__(self, function: Callable[..., Any], point: TensorForm, *, is_loss: bool) -> None:
        if not callable(function):
            raise TensorError(f"The function takes a point; {type(function).__qualname__} was given.")
        self._function, self._point, self._is_loss = function, point, is_loss
        base = {name: tensor.datatype.from_storage(tensor.array) for name, tensor in point.tensors.items()}
        result = self._call_function(base, "the base")
        self.outputs: TensorForm | None = None
        self._shapes: Mapping[str, tuple[int, ...]] = {}
        self._base_loss: Loss = None
        if is_loss:
            self._base_loss = _read_base_loss(result)
        else:
            self.outputs = _read_base_outputs(result)
            self._shapes = self.outputs.shapes

    def evaluate(
        self,
        points: Mapping[str, Array],
        count: int,
        progress: EvaluationProgress | None = None,
        known: PointValues | None = None,
    ) -> PointValues:
        """Evaluate the function at points, after those with known values; at the first of all its value is known.

        Parameters
        ----------
        points
            Points by name, shape (count, *tensor).
        count
            Number of points.
        progress
            Called after each evaluation.
        known
            Values at the points before these; none by default. They stand first in the result.

        Raises
        ------
        Exception
            That of the function at the base, with a note of the point.
        FunctionError
            The function changes its input, or its outputs, or has no value at the base.
        TensorError
            The function returned neither numbers nor arrays of floats.
        """
        first = 0 if known is None else len(known)
        losses: list[Loss] = []
        outputs: list[Outputs] = []
        exceptions: list[MissingValue] = []
        total = first + count
        if known is None:
            losses.append(self._base_loss)
            outputs.append(self.outputs.tensors if self.outputs else {})
            _report_progress(progress, 1, total)
        for number in range(max(first, 1), total):
            place = "the base, again" if number < BASE_REPEATS else f"point {number} of the {total} of the plan"
            result = None
            try:
                result = self._call_function({name: array[number - first] for name, array in points.items()}, place)
            except FunctionError:
                raise
            except Exception as error:
                if number < BASE_REPEATS:
                    raise
                # A traceback would keep the memory of each call.
                exceptions.append((number, error.with_traceback(None)))
            if self._is_loss:
                losses.append(_read_further_loss(result, place, is_base=number < BASE_REPEATS))
            else:
                outputs.append(self._read_outputs(result, place, is_base=number < BASE_REPEATS))
            _report_progress(progress, number + 1, total)
        values = PointValues(losses if self._is_loss else [], self._stack_outputs(outputs), tuple(exceptions))
        return values if known is None else known.append(values)

    def _call_function(self, arrays: Mapping[str, Array], place: str) -> Any:
        items = {name: restore_point_tensor(original, arrays[name]) for name, original in self._point.originals.items()}
        point = self._point.assemble(items)
        try:
            result = self._function(*point) if self._point.kind == "tuple" else self._function(point)
        except Exception as error:
            error.add_note(f"gradcheckd: raised by the function at {place}")
            raise
        refuse_changes(items, arrays, f"The function changed its input {{}} in place, at {place}")
        return result

    def _read_outputs(self, result: Any, place: str, *, is_base: bool) -> Outputs:
        """Read the outputs at one point, None for those without a value; they keep names and shapes."""
        form = self.outputs
        assert form is not None
        if _is_missing(result, place, is_base=is_base):
            return {}
        try:
            items = form.flatten(result, "The result of the function")
            outputs = {
                name: None if value is None and not is_base else read_output(value, name)
                for name, value in items.items()
            }
        except TensorError as error:
            raise _describe_other_result(error, place, is_base=is_base) from None
        for name, tensor in outputs.items():
            if tensor is not None and tensor.array.shape != self._shapes[name]:
                raise FunctionError(
                    f"Output {name!r} has shape {list(tensor.array.shape)} at {place}, and {list(self._shapes[name])} "
                    "at the base. Return the same shapes at every point, or None where there is no value."
                )
        return outputs

    def _stack_outputs(self, rows: list[Outputs]) -> dict[str, TypedTensor]:
        return {name: _stack_tensors([row.get(name) for row in rows], shape) for name, shape in self._shapes.items()}


def refuse_changes(items: Mapping[str, Any], arrays: Mapping[str, Array], message: str) -> None:
    """Refuse a caller's function that changed its input.

    Parameters
    ----------
    items
        Tensors that it was given, by name.
    arrays
        Numbers that they had.
    message
        Message with a place for the name.

    Raises
    ------
    FunctionError
        The numbers of a tensor are others now.
    """
    for name, item in items.items():
        numbers = read_numbers(item)
        # Bits, for NaN equals nothing; and faster, beside small functions, than a comparison of numbers.
        if numbers.shape != arrays[name].shape or numbers.tobytes() != arrays[name].tobytes():
            raise FunctionError(f"{message.format(repr(name))}. Have it work on a copy of its input.")


def describe_exceptions(exceptions: Sequence[MissingValue]) -> list[str]:
    """Return a line on the exceptions of a function, with the first of them; none without exceptions."""
    if not exceptions:
        return []
    number, error = exceptions[0]
    count = "1 point" if len(exceptions) == 1 else f"{len(exceptions)} points"
    return [
        f"The function raised an exception at {count}, which counts as no value; the first, at point {number}: "
        f"{describe_exception(error)}"
    ]


def read_numbers(item: Any) -> Array:
    """Return the numbers of an array of any library; bfloat16 in the float32 that holds it."""
    if isinstance(item, np.ndarray):
        return cast("Array", item)
    tensor = to_tensor(item, "input")
    assert isinstance(tensor, TypedTensor)
    return tensor.datatype.from_storage(tensor.array)


def _read_base_outputs(result: Any) -> TensorForm:
    if result is None:
        raise FunctionError("The function returned None at the base. Does it lack a return?")
    return read_outputs(result)


def _read_base_loss(result: Any) -> Loss:
    try:
        return _read_loss(result)
    except TensorError as error:
        raise TensorError(
            f"{error} A candidate is the gradient of one number. For a function with other outputs give vjp, jvp or "
            "jacobian."
        ) from None


def _read_further_loss(result: Any, place: str, *, is_base: bool) -> Loss:
    if _is_missing(result, place, is_base=is_base):
        return None
    try:
        return _read_loss(result)
    except TensorError as error:
        raise _describe_other_result(error, place, is_base=is_base) from None


def _describe_other_result(error: TensorError, place: str, *, is_base: bool) -> FunctionError:
    return FunctionError(f"At {place}, otherwise than {'before' if is_base else 'at the base'}: {error}")


def _is_missing(result: Any, place: str, *, is_base: bool) -> bool:
    """Tell whether there is no value; the base has one.

    Raises
    ------
    FunctionError
        The function returned a value at the base, and then None.
    """
    if result is None and is_base:
        raise FunctionError(
            f"The function returned None at {place}, and a value before. Have it depend on its input alone."
        )
    return result is None


def _read_loss(result: Any) -> Loss:
    loss = to_tensor(to_number(result, "The function returned"), "loss")
    assert isinstance(loss, UntypedTensor)
    return loss.value


def _report_progress(progress: EvaluationProgress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def _stack_tensors(tensors: list[TypedTensor | None], shape: tuple[int, ...]) -> TypedTensor:
    """Stack the values of one output; a missing one is NaN, and float64 holds several datatypes."""
    datatypes = {tensor.datatype.name for tensor in tensors if tensor is not None}
    datatype = BY_NAME[datatypes.pop() if len(datatypes) == 1 else "FP64"]
    stack = np.empty((len(tensors), *shape), datatype.storage_dtype)
    for number, tensor in enumerate(tensors):
        stack[number] = _get_nan(datatype) if tensor is None else _convert_storage(tensor, datatype)
    return TypedTensor(datatype, stack)


def _join_tensors(tensor: TypedTensor, further: TypedTensor) -> TypedTensor:
    """Join the values of one output; float64 holds several datatypes."""
    datatype = tensor.datatype if tensor.datatype is further.datatype else BY_NAME["FP64"]
    return TypedTensor(datatype, np.concatenate([_convert_storage(part, datatype) for part in (tensor, further)]))


def _get_nan(datatype: Datatype) -> float | int:
    return _BFLOAT16_NAN_BITS if datatype.name == "BF16" else np.nan


def _convert_storage(tensor: TypedTensor, datatype: Datatype) -> Array:
    return tensor.array if tensor.datatype is datatype else tensor.datatype.from_storage(tensor.array)
