"""The harness of operators: properties that arrays cannot show, each with a line of its own."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from gradcheckd.errors import InconclusiveGradientWarning, RequestError, hide_frames
from gradcheckd.service import Service
from gradcheckd.torch.operator_calls import Operator
from gradcheckd.torch.operator_case import OperatorCase
from gradcheckd.torch.operator_changes import check_changes
from gradcheckd.torch.operator_gradients import GRADIENT, GradientJudge
from gradcheckd.torch.operator_inputs import check_inputs
from gradcheckd.torch.operator_memory import check_memory
from gradcheckd.torch.operator_repeats import check_repeats
from gradcheckd.torch.operator_report import OperatorError, OperatorLine, OperatorReport
from gradcheckd.torch.operator_sizes import MakeInputs
from gradcheckd.torch.operator_upstream import check_upstream

__tracebackhide__ = hide_frames


def check_operator(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    make_inputs: MakeInputs | None = None,
    nondet_tol: float = 0.0,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    url: str | None = None,
    key: str | None = None,
) -> OperatorReport:
    """Check an operator of torch: its gradients, and the properties that arrays cannot show.

    The operator runs with copies of the inputs: with upstream gradients that are transposed, strided, expanded, zero or
    partly masked, with inputs in other layouts, several times, and at other sizes. The report has a line for each
    property, and for each tensor that the operator may not change.

    Parameters
    ----------
    func
        Operator, such as `Function.apply` or any function of tensors. Takes the inputs as arguments, and returns a
        tensor, or a tuple, list or mapping with tensors.
    inputs
        Tensors and other arguments, or a single tensor. The differentiable ones are those with `requires_grad`, or, if
        none has it, all tensors of floats.
    make_inputs
        Function of a size that returns inputs of that size, for the sizes 1, 2, 3, 5 and 7. By default the first
        elements of the inputs, all axes of one length together, and one element of each.
    nondet_tol
        Allowed difference of two equal calls, absolute, as in `torch.autograd.gradcheck`. The other comparisons allow
        for a difference of equal calls by themselves.
    seed
        Seed of upstream gradients and directions.
    options
        Parameters of `gradcheckd.check_function` for the gradients, such as `{"tolerance": {"rtol": 1e-3}}`.
    url, key
        Address and key of the service.

    Returns
    -------
    OperatorReport
        Lines by property, `passed`, and the report for a terminal, `text()`.

    Raises
    ------
    TensorError
        No input is a tensor of floats, one has a datatype in which torch does not compute, or no output depends on one.
    RequestError
        `make_inputs` returned no inputs of the operator.
    Exception
        Any error of the operator with the inputs as they are.
    """
    operator = Operator(func, inputs)
    case = OperatorCase.measure(operator, seed, nondet_tol)
    with Service(url, key) as service:
        judge = GradientJudge(service, options or {}, seed)
        return OperatorReport(tuple(_iterate_lines(case, judge, make_inputs)))


def assert_operator(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    inconclusive: Literal["raise", "warn"] = "raise",
    **options: Any,
) -> OperatorReport:
    """Raise an OperatorError, an AssertionError, unless an operator passes; other parameters as in `check_operator`.

    Parameters
    ----------
    func, inputs
        As in `check_operator`.
    inconclusive
        "raise" an error, or "warn" with an `InconclusiveGradientWarning`, if no line fails and one is inconclusive.
    options
        Other parameters of `check_operator`.

    Raises
    ------
    OperatorError
        A line fails, or is inconclusive; the message is the report.
    """
    if inconclusive not in ("raise", "warn"):
        raise RequestError(f'inconclusive is "raise" or "warn"; {inconclusive!r} was given.')
    report = check_operator(func, inputs, **options)
    if inconclusive == "warn" and report.outcome == "inconclusive":
        warnings.warn(report.text(), InconclusiveGradientWarning, stacklevel=2)
    elif not report.passed:
        raise OperatorError(report, report.text())
    return report


def _iterate_lines(case: OperatorCase, judge: GradientJudge, make_inputs: MakeInputs | None) -> Iterator[OperatorLine]:
    yield judge.judge(GRADIENT, case.operator)
    yield from check_upstream(case)
    yield from check_inputs(case)
    yield from check_changes(case)
    yield from check_memory(case)
    yield from check_repeats(case)
    yield from judge.judge_sizes(case.operator, make_inputs)
