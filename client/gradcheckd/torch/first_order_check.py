"""The check of first derivatives: the judgement of the service, and torch's comparison where it cannot decide."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gradcheckd
from gradcheckd.directions import are_automatic, choose_directions
from gradcheckd.errors import ProblemError, TensorError
from gradcheckd.report import BlackBoxReport
from gradcheckd.torch import torch_internals
from gradcheckd.torch.check_settings import CheckSettings
from gradcheckd.torch.function_values import as_tuple, is_differentiable, refuse_unfit_inputs, refuse_unfit_results
from gradcheckd.torch.mismatch_error import GradientMismatchError, describe_mismatch, hide_frames
from gradcheckd.torch.moved_input import UnjudgeableError
from gradcheckd.torch.rounded_gradients import find_lost_differences
from gradcheckd.torch.small_differences import find_lost_failures, find_real_failures, get_small_tolerance
from gradcheckd.torch.torch_comparison import compare_as_torch, run_other_tests
from gradcheckd.torch.torch_function import TorchFunction
from gradcheckd.torch.undecided_elements import FURTHER_LOOKS, describe_undecided, find_undecided, shrink_moves

__tracebackhide__ = hide_frames

_UNDECIDED_STATUSES = (413, 422)
"""Statuses of requests that are too large, or whose point the service does not take."""
_COARSE_ERROR = 0.01
"""Part of the norm of a gradient that noise hides along random directions, from which on each element is looked at:
one wrong element among large ones may hide there, and shows alone."""
_MAX_LOCATED_SIZE = 256
"""Numbers of all inputs up to which a wrong one is looked for by itself."""


def check_first_order(func: Callable[..., Any], inputs: Any, settings: CheckSettings) -> None:
    """Check the derivatives of a function.

    Parameters
    ----------
    func
        Function of the inputs; returns a tensor or a tuple of tensors.
    inputs
        A tensor or a tuple of tensors and other values.
    settings
        Settings of the check.

    Raises
    ------
    GradientMismatchError
        A derivative is wrong.
    GradcheckError
        Another of torch's tests fails, or its comparison where the service could not decide.
    ValueError, RuntimeError, TensorError
        The inputs or outputs are none that torch's checker takes.
    """
    arguments = as_tuple(inputs)
    refuse_unfit_inputs(arguments)
    raw_results = func(*arguments)
    results = as_tuple(raw_results)
    refuse_unfit_results(results)
    outputs = tuple(filter(is_differentiable, results))
    torch_internals.check_outputs(outputs)
    reason = _judge(func, arguments, results, settings)
    if reason is not None:
        compare_as_torch(func, arguments, raw_results, outputs, settings, reason)
    run_other_tests(func, arguments, raw_results, outputs, settings)


def _judge(
    func: Callable[..., Any], arguments: tuple[Any, ...], results: tuple[Any, ...], settings: CheckSettings
) -> str | None:
    """Judge by the service; return the reason if it cannot decide."""
    try:
        function = TorchFunction(func, arguments, results, settings)
        if settings.check_forward_ad and function.has_unmoved_elements:
            return "Forward mode of sparse inputs, or of inputs with infinities, is not judged."
        directions = choose_directions(function.size, settings.fast_mode)
        return None if function.is_vacuous else _judge_function(function, settings, directions)
    except (UnjudgeableError, TensorError) as error:
        return f"{error}."
    except ProblemError as error:
        if error.status not in _UNDECIDED_STATUSES:
            raise
        return "; ".join(place["detail"] for place in error.errors) or error.detail


def _judge_function(function: TorchFunction, settings: CheckSettings, directions: str) -> str | None:
    """Judge to rounding, and by the tolerance of the caller, if there is one, only derivatives that do not pass so.

    A tolerance alone would refuse correct derivatives of a size whose rounding exceeds it. Along random directions a
    small difference may be all that shows of one wrong element, so that a function that is not too large is then judged
    element by element.
    """
    report = _request_report(function, settings, directions, None)
    if settings.tolerance is not None and not _passes(report, function):
        report = _request_report(function, settings, directions, settings.tolerance)
    has_failed = report.outcome == "fail"
    report = _judge_small_tangents(report, function, settings, directions)
    _refuse_failure(report, function, settings, directions)
    if lost := find_lost_failures(report, function.unit_roundoff, _find_lost_differences(report, function)):
        return f"{lost[0]}: it is rounding of others of the same backward pass, which are larger"
    if has_failed and directions == "random" and function.size <= _MAX_LOCATED_SIZE:
        return _judge_function(function, settings, "coordinates")
    if has_failed and directions == "coordinates":
        return _look_again(report, function, settings)
    if directions == "random" and _is_coarse(report) and are_automatic() and function.size <= _MAX_LOCATED_SIZE:
        _refuse_failure(_request_report(function, settings, "coordinates", None), function, settings, "coordinates")
    return None if _passes(report, function) else describe_undecided(report)


def _is_coarse(report: BlackBoxReport) -> bool:
    """Tell whether a pass would have missed a gradient that is off by a notable part of its norm."""
    detected = (verdict.smallest_detectable_error for verdict in report.verdicts.values() if verdict.directions)
    return report.outcome == "pass" and max(detected, default=0.0) > _COARSE_ERROR


def _refuse_failure(report: BlackBoxReport, function: TorchFunction, settings: CheckSettings, directions: str) -> None:
    if _fails(report, function):
        report = _locate_failure(report, function, settings, directions)
        raise GradientMismatchError(describe_mismatch(report, function), report)


def _look_again(report: BlackBoxReport, function: TorchFunction, settings: CheckSettings) -> str | None:
    """Decide by smaller moves the elements beside small failures; return the reason if some of them stay undecided."""
    undecided = find_undecided(report)
    for look in range(1, FURTHER_LOOKS + 1):
        if not undecided:
            return None
        scale = shrink_moves(function.nonempty_inputs, look)
        further = _request_report(function, settings, "coordinates", None, scale)
        further = _judge_small_tangents(further, function, settings, "coordinates", scale)
        _refuse_failure(further, function, settings, "coordinates")
        undecided &= find_undecided(further)
    return describe_undecided(report) if undecided else None


def _judge_small_tangents(
    report: BlackBoxReport,
    function: TorchFunction,
    settings: CheckSettings,
    directions: str,
    scale: Mapping[str, Any] | None = None,
) -> BlackBoxReport:
    """Judge forward mode again by the small differences, if it alone fails: a report lists its worst elements alone."""
    if not (settings.check_forward_ad and _fails(report, function)):
        return report
    if any("/" in name for name in find_real_failures(report, function.unit_roundoff)):
        return report
    tolerance = get_small_tolerance(function.unit_roundoff, function.tangent_size)
    if tolerance is None:
        return report
    forward = replace(settings, check_backward_ad=False)
    located = _request_report(function, forward, directions, tolerance, scale)
    return report if located.outcome == "fail" else located


def _fails(report: BlackBoxReport, function: TorchFunction) -> bool:
    return report.outcome == "fail" and bool(
        find_real_failures(report, function.unit_roundoff, _find_lost_differences(report, function))
    )


def _find_lost_differences(report: BlackBoxReport, function: TorchFunction) -> dict[str, float]:
    return {} if function.sizes is None else find_lost_differences(report, function.sizes, function.unit_roundoff)


def _passes(report: BlackBoxReport, function: TorchFunction) -> bool:
    """Tell whether nothing fails but what is small, and nothing is undecided."""
    if report.outcome != "fail":
        return report.outcome == "pass"
    return not (find_undecided(report) or find_real_failures(report, function.unit_roundoff))


def _locate_failure(
    report: BlackBoxReport, function: TorchFunction, settings: CheckSettings, directions: str
) -> BlackBoxReport:
    """Judge a wrong derivative again, element by element, if there are not too many."""
    if directions == "coordinates" or function.size > _MAX_LOCATED_SIZE:
        return report
    located = _request_report(function, settings, "coordinates", settings.tolerance)
    return located if _fails(located, function) else report


def _request_report(
    function: TorchFunction,
    settings: CheckSettings,
    directions: str,
    tolerance: dict[str, float] | None,
    scale: Mapping[str, Any] | None = None,
) -> BlackBoxReport:
    function.tangent_inputs.clear()
    return gradcheckd.check_function(
        function.evaluate,
        function.point,
        vjp=function.compute_vjp if settings.check_backward_ad else None,
        jvp=function.compute_jvp if settings.check_forward_ad else None,
        directions=directions,
        tolerance=tolerance,
        scale=scale,
    )
