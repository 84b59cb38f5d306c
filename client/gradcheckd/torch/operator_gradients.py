"""Checks of the gradients of an operator by the service, at the inputs and at other sizes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheckd.errors import FunctionError, ProblemError, RequestError, TensorError, describe_exception
from gradcheckd.report import BlackBoxReport
from gradcheckd.service import Service
from gradcheckd.torch.operator_calls import Gradients, Operator, Tensors, is_dense
from gradcheckd.torch.operator_case import attempt, draw_upstream
from gradcheckd.torch.operator_report import OperatorLine
from gradcheckd.torch.operator_sizes import MakeInputs, resize_inputs

GRADIENT = "gradient"


class GradientJudge:
    """Judges the vector-Jacobian products of operators.

    Parameters
    ----------
    service
        Service that judges.
    options
        Parameters of `Service.check_function`.
    seed
        Seed of the upstream gradients.
    """

    def __init__(self, service: Service, options: Mapping[str, Any], seed: int) -> None:
        self._service, self._options, self._seed = service, options, seed

    def judge(self, name: str, operator: Operator) -> OperatorLine:
        """Return the line on the gradients of an operator at its inputs."""
        sparse = [index for index in operator.differentiable if not is_dense(operator.inputs[index])]
        if sparse:
            layout = str(operator.inputs[sparse[0]].layout).removeprefix("torch.")
            detail = (
                f"not judged: input {sparse[0]} has the layout {layout}; gradcheckd.torch.gradcheck moves its numbers"
            )
            return OperatorLine(name, "inconclusive", detail)
        numbers = tuple(draw_upstream(operator, self._seed))

        def evaluate(*tensors: Tensor) -> Tensors:
            outputs = operator.call(_replace_inputs(operator, tensors))
            return tuple(_split_complex(outputs[number]) for number in numbers)

        def pull_back(point: Tensors, cotangents: Tensors) -> Gradients:
            inputs = _replace_inputs(operator, point)
            outputs = operator.call(inputs)
            # A copy: that an operator writes into it is the finding of another line.
            upstream = {
                number: _join_like(outputs[number], cotangent.clone())
                for number, cotangent in zip(numbers, cotangents, strict=True)
            }
            gradients = operator.backward(outputs, inputs, upstream)
            return tuple(None if gradient is None else _split_complex(gradient) for gradient in gradients)

        point = tuple(map(_split_complex, operator.get_differentiable(operator.inputs)))
        try:
            report = self._check(evaluate, point, pull_back)
        except ProblemError as error:
            refused = [f"{place['pointer']}: {place['detail']}" for place in error.errors] or [error.detail]
            return OperatorLine(name, "inconclusive", f"not judged: {'; '.join(refused)}")
        except (TensorError, FunctionError) as error:
            return OperatorLine(name, "inconclusive", f"not judged: {describe_exception(error)}")
        return OperatorLine(name, report.outcome, _describe_report(report))

    def _check(self, evaluate: Any, point: Tensors, pull_back: Any) -> BlackBoxReport:
        """Return a report; of an undecided check the second one, since random cotangents may cancel by chance."""
        check: Any = self._service.check_function
        options = {"seed": self._seed, **self._options}
        report: BlackBoxReport = check(evaluate, point, vjp=pull_back, **options)
        if report.outcome == "inconclusive":
            report = check(evaluate, point, vjp=pull_back, **{**options, "seed": options["seed"] + 1})
        return report

    def judge_sizes(self, operator: Operator, make_inputs: MakeInputs | None) -> Iterator[OperatorLine]:
        """Yield a line on the gradients at each size; at a size that the forward pass refuses nothing runs."""
        count = 0
        for name, make_resized in resize_inputs(operator, make_inputs):
            count += 1
            try:
                resized = operator.with_inputs(make_resized())
                resized.call(resized.copy_inputs())
            except RequestError:
                # A mistake of the caller's make_inputs, and none of the operator.
                raise
            except Exception as error:  # noqa: BLE001 - of any kind, since the operator is the caller's
                yield OperatorLine(name, "not run", f"the operator refuses it: {describe_exception(error)}")
                continue
            yield attempt(name, lambda name=name, resized=resized: self.judge(name, resized))
        if not count:
            yield OperatorLine("sizes", "not run", "no input has an axis longer than 1; give make_inputs")


def _describe_report(report: BlackBoxReport) -> str:
    """Return the summary without its outcome, of a pass the first sentence alone."""
    summary = report.summary.removeprefix(f"{report.outcome}: ")
    return summary.partition(". ")[0] if report.passed else summary


def _replace_inputs(operator: Operator, tensors: Sequence[Tensor]) -> tuple[Any, ...]:
    """Return inputs with other numbers for the differentiable ones; all are copies, which the operator may change."""
    inputs = list(operator.inputs)
    for index, tensor in zip(operator.differentiable, tensors, strict=True):
        inputs[index] = _join_like(inputs[index], tensor)
    return operator.with_inputs(inputs).copy_inputs()


def _split_complex(tensor: Tensor) -> Tensor:
    """Return complex numbers as pairs of reals, and reals as they are.

    The gradient of torch at a complex number is the pair of the derivatives by its real and its imaginary part.
    """
    detached = tensor.detach()
    return torch.view_as_real(detached.resolve_conj()) if detached.is_complex() else detached


def _join_like(original: Tensor, tensor: Tensor) -> Tensor:
    """Return pairs of reals as complex numbers if the original is complex."""
    return torch.view_as_complex(tensor.contiguous()) if original.is_complex() else tensor
