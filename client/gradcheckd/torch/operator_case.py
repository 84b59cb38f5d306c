"""The operator, its upstream gradients and a reference run, as the checks of the harness take them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradcheckd.errors import describe_exception
from gradcheckd.torch.operator_calls import Operator, OperatorRun, Tensors, make_upstream
from gradcheckd.torch.operator_comparison import (
    RoundingLimits,
    TensorDifference,
    compare_gradients,
    compare_outputs,
    measure_rounding,
)
from gradcheckd.torch.operator_report import OperatorLine


@dataclass(frozen=True)
class OperatorCase:
    """An operator with contiguous inputs, and what it computes.

    Attributes
    ----------
    operator
        Operator with its inputs.
    upstream
        Random, contiguous upstream gradients by output.
    reference
        Run with contiguous inputs and these upstream gradients.
    rounding
        Differences from the reference that rounding explains.
    seed
        Seed of all random numbers.
    nondet_tol
        Allowed difference of two equal calls.
    """

    operator: Operator
    upstream: Mapping[int, Tensor]
    reference: OperatorRun
    rounding: RoundingLimits
    seed: int
    nondet_tol: float

    @classmethod
    def measure(cls, operator: Operator, seed: int, nondet_tol: float) -> "OperatorCase":
        """Run the operator and measure its rounding; errors of the operator are raised."""
        upstream = draw_upstream(operator, seed)
        reference = operator.run(upstream)
        rounding = measure_rounding(operator, upstream, reference, seed)
        return cls(operator, upstream, reference, rounding, seed, nondet_tol)

    def compare_with_contiguous(self, upstream: Mapping[int, Tensor]) -> list[TensorDifference]:
        """Return the differences of gradients by the layout of the upstream gradients.

        Parameters
        ----------
        upstream
            Upstream gradients in some layout. Their numbers in a contiguous memory make the reference.
        """
        contiguous = {number: tensor.contiguous().clone() for number, tensor in upstream.items()}
        reference = self.operator.run(contiguous)
        rounding = measure_rounding(self.operator, contiguous, reference, self.seed)
        run = self.operator.run(upstream)
        return compare_gradients(run.gradients, reference.gradients, rounding.gradients)

    def compare_run(self, run: OperatorRun) -> list[TensorDifference]:
        """Return the differences of a run from the reference."""
        return [
            *compare_outputs(run.outputs, self.reference.outputs, self.rounding.outputs),
            *compare_gradients(run.gradients, self.reference.gradients, self.rounding.gradients),
        ]


def draw_upstream(operator: Operator, seed: int) -> dict[int, Tensor]:
    """Return random, contiguous upstream gradients of an operator, by output."""
    outputs: Tensors = operator.call(operator.copy_inputs())
    return make_upstream(outputs, torch.Generator().manual_seed(seed))


def judge_differences(name: str, differences: list[TensorDifference], basis: str) -> OperatorLine:
    """Return the line for differences from a reference.

    Parameters
    ----------
    name
        Name of the line.
    differences
        TensorDifference of each tensor.
    basis
        Reference in words, for a line that passes.
    """
    unknown = [difference for difference in differences if difference.allowed == float("inf")]
    wrong = [difference for difference in differences if not difference.is_allowed]
    if wrong:
        return OperatorLine(name, "fail", "; ".join(difference.describe() for difference in wrong))
    if unknown:
        subjects = ", ".join(difference.subject for difference in unknown)
        return OperatorLine(name, "inconclusive", f"{subjects}: not finite when the inputs move by one unit roundoff")
    largest = max(differences, key=lambda difference: difference.value)
    return OperatorLine(name, "pass", f"{basis}: {largest.describe()}" if largest.value else f"{basis}: equal")


def attempt(name: str, check: Callable[[], OperatorLine]) -> OperatorLine:
    """Return the line of a check, or one that fails with the exception of the operator."""
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - of any kind, since the operator is the caller's
        return OperatorLine(name, "fail", f"the operator raises {describe_exception(error)}")
