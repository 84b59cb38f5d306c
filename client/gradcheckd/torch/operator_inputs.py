"""Checks of an operator by the layout of its inputs."""

from collections.abc import Iterator

from torch import Tensor

from gradcheckd.errors import describe_exception
from gradcheckd.torch.operator_calls import Arrange, is_dense
from gradcheckd.torch.operator_case import OperatorCase, attempt, judge_differences
from gradcheckd.torch.operator_layouts import LAYOUTS, NEEDS, is_rearranged
from gradcheckd.torch.operator_report import OperatorLine


def check_inputs(case: OperatorCase) -> Iterator[OperatorLine]:
    """Yield a line for each layout of the inputs; a forward pass that refuses a layout by an error does not fail."""
    for kind, arrange in LAYOUTS.items():
        yield _check_layout(case, f"inputs, {kind}", kind, arrange)


def _check_layout(case: OperatorCase, name: str, kind: str, arrange: Arrange) -> OperatorLine:
    operator = case.operator
    tensors = [value for value in operator.inputs if isinstance(value, Tensor) and is_dense(value)]
    if not any(is_rearranged(tensor, arrange(tensor)) for tensor in tensors):
        return OperatorLine(name, "not run", f"no input has {NEEDS[kind]}")
    try:
        operator.call(operator.copy_inputs(arrange))
    except Exception as error:  # noqa: BLE001 - of any kind, since the operator is the caller's
        return OperatorLine(name, "not run", f"the operator refuses them: {describe_exception(error)}")
    return attempt(
        name,
        lambda: judge_differences(
            name, case.compare_run(operator.run(case.upstream, arrange)), "like the same numbers, contiguous"
        ),
    )
