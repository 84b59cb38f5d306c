"""Checks of the memory of outputs: whether it is that of an input, and what a change of an output does."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheckd.errors import describe_exception
from gradcheckd.torch.operator_calls import Tensors, is_dense
from gradcheckd.torch.operator_case import OperatorCase, attempt
from gradcheckd.torch.operator_comparison import compare_gradients
from gradcheckd.torch.operator_report import OperatorLine

ALIASES = "outputs, memory of an input"
CHANGED = "outputs, changed in place"


def check_memory(case: OperatorCase) -> Iterator[OperatorLine]:
    """Yield a line on shared memory, and one on the gradients after a change of the outputs."""
    yield attempt(ALIASES, lambda: _check_aliases(case))
    yield attempt(CHANGED, lambda: _check_changed_outputs(case))


def _check_aliases(case: OperatorCase) -> OperatorLine:
    """Check that autograd knows of each output with the memory of an input."""
    inputs = case.operator.copy_inputs()
    outputs = case.operator.call(inputs)
    aliases = list(_find_aliases(outputs, inputs))
    hidden = [
        f"output {number} of input {index}"
        for number, index in aliases
        if not _is_known(outputs[number], inputs[index])
    ]
    if hidden:
        return OperatorLine(
            ALIASES,
            "fail",
            f"shared without autograd's knowledge: {', '.join(hidden)}. A change of one changes the other. "
            "Return a copy, or a view that autograd records",
        )
    views = ", ".join(f"output {number} of input {index}" for number, index in aliases)
    return OperatorLine(ALIASES, "pass", f"views that autograd records: {views}" if views else "none is shared")


def _find_aliases(outputs: Tensors, inputs: Sequence[Any]) -> Iterator[tuple[int, int]]:
    for number, output in enumerate(outputs):
        for index, value in enumerate(inputs):
            if isinstance(value, Tensor) and _share_memory(output, value):
                yield number, index


def _share_memory(first: Tensor, second: Tensor) -> bool:
    if not (is_dense(first) and is_dense(second) and first.numel() and second.numel()):
        return False
    return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def _is_known(output: Tensor, value: Tensor) -> bool:
    """Tell whether a change of an output counts as one of the input, too, as autograd counts them."""
    if output is value:
        return True
    before = value._version  # pyright: ignore[reportPrivateUsage] - the only sign of a shared count
    with torch.no_grad():
        try:
            output.add_(0)
        except RuntimeError:
            # A view that autograd does not let be changed, such as one of several outputs.
            return True
    return value._version != before  # pyright: ignore[reportPrivateUsage]


def _check_changed_outputs(case: OperatorCase) -> OperatorLine:
    """Check that a change of the outputs leaves the gradients the same, or raises an error."""
    inputs = case.operator.copy_inputs()
    outputs = case.operator.call(inputs)
    try:
        _change_outputs(outputs)
        gradients = case.operator.backward(outputs, inputs, case.upstream)
    except RuntimeError as error:
        return OperatorLine(CHANGED, "pass", f"refused: {describe_exception(error)}")
    allowed = case.rounding.gradients
    wrong = [
        difference
        for difference in compare_gradients(gradients, case.reference.gradients, allowed)
        if not difference.is_allowed
    ]
    if wrong:
        return OperatorLine(
            CHANGED,
            "fail",
            f"{'; '.join(difference.describe() for difference in wrong)}, without an error. Keep a copy for the "
            "backward pass, or keep tensors with ctx.save_for_backward",
        )
    return OperatorLine(CHANGED, "pass", "the gradients stay the same")


def _change_outputs(outputs: Tensors) -> None:
    with torch.no_grad():
        for output in outputs:
            if output.is_floating_point() or output.is_complex():
                output.mul_(-3).add_(1)
