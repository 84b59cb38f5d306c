"""Checks that equal calls of an operator have equal results."""

from collections.abc import Iterator

from gradcheckd.torch.operator_calls import Gradients, Tensors
from gradcheckd.torch.operator_case import OperatorCase, attempt, judge_differences
from gradcheckd.torch.operator_comparison import TensorDifference, compare_gradients, compare_outputs
from gradcheckd.torch.operator_report import OperatorLine

REPEATS = 3
"""Calls that are compared."""


def check_repeats(case: OperatorCase) -> Iterator[OperatorLine]:
    """Yield a line on forward passes, and one on backward passes of one graph."""
    for name, check in (("forward pass, repeated", _repeat_forward), ("backward pass, repeated", _repeat_backward)):
        yield attempt(name, lambda name=name, check=check: check(case, name))


def _repeat_forward(case: OperatorCase, name: str) -> OperatorLine:
    first = _call_once(case)
    allowed = [case.nondet_tol] * len(first)
    runs = [compare_outputs(_call_once(case), first, allowed) for _ in range(REPEATS - 1)]
    return judge_differences(name, _keep_largest(runs), f"{REPEATS} calls")


def _call_once(case: OperatorCase) -> Tensors:
    outputs = case.operator.call(case.operator.copy_inputs())
    return tuple(output.detach() for output in outputs)


def _repeat_backward(case: OperatorCase, name: str) -> OperatorLine:
    inputs = case.operator.copy_inputs()
    outputs = case.operator.call(inputs)
    passes: list[Gradients] = []
    for _ in range(REPEATS):
        # A backward pass that writes into its upstream gradients is another finding.
        upstream = {number: tensor.clone() for number, tensor in case.upstream.items()}
        gradients = case.operator.backward(outputs, inputs, upstream, keep_graph=True)
        passes.append(tuple(None if gradient is None else gradient.clone() for gradient in gradients))
    allowed = [case.nondet_tol] * len(passes[0])
    runs = [compare_gradients(gradients, passes[0], allowed) for gradients in passes[1:]]
    return judge_differences(name, _keep_largest(runs), f"{REPEATS} passes of one graph")


def _keep_largest(runs: list[list[TensorDifference]]) -> list[TensorDifference]:
    return [max(differences, key=lambda difference: difference.value) for differences in zip(*runs, strict=True)]
