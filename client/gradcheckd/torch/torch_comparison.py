"""Torch's own comparison of an undecided check, with a warning, and its tests of all that numbers do not show."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from gradcheckd.torch import torch_internals
from gradcheckd.torch.check_settings import CheckSettings
from gradcheckd.torch.function_values import as_tuple, is_complex
from gradcheckd.undecided import announce_undecided


def compare_as_torch(
    func: Callable[..., Any],
    arguments: tuple[Any, ...],
    raw_results: Any,
    outputs: Sequence[Any],
    settings: CheckSettings,
    reason: str,
) -> None:
    """Compare as torch's checker does, at the caller's tolerances, and say why."""
    compare = torch_internals.compare_fast if settings.fast_mode else torch_internals.compare_slowly
    message = (
        f"gradcheckd could not decide, so that torch's own comparison decides (atol={float(settings.atol):g}, "
        f"rtol={float(settings.rtol):g}). {reason}"
    )
    try:
        torch_internals.compare_parts(
            functools.partial(compare, masked=settings.masked),
            func,
            raw_results,
            arguments,
            outputs,
            float(settings.eps),
            float(settings.rtol),
            float(settings.atol),
            settings.check_grad_dtypes,
            check_forward_ad=settings.check_forward_ad,
            check_backward_ad=settings.check_backward_ad,
            nondet_tol=settings.nondet_tol,
            check_undefined_grad=False,
        )
    except torch_internals.GradcheckError as error:
        error.add_note(message)
        raise
    finally:
        announce_undecided(message)


def run_other_tests(
    func: Callable[..., Any],
    arguments: tuple[Any, ...],
    raw_results: Any,
    outputs: Sequence[Any],
    settings: CheckSettings,
) -> None:
    """Run torch's tests of all that numbers do not show, in torch's order."""
    if settings.check_forward_ad and settings.check_undefined_grad:
        _test_undefined_tangents(func, arguments, raw_results)
    if settings.check_batched_forward_grad:
        torch_internals.test_batched_forward(func, arguments)
    if not settings.check_backward_ad:
        return
    if settings.check_batched_grad:
        for index, output in enumerate(outputs):
            torch_internals.test_batched_backward(arguments, output, index)
    torch_internals.test_zero_grad_output(outputs, arguments, settings.masked)
    if settings.check_undefined_grad:
        torch_internals.test_undefined_backward(func, outputs, arguments)


def _test_undefined_tangents(func: Callable[..., Any], arguments: tuple[Any, ...], raw_results: Any) -> None:
    complex_indices = [index for index, value in enumerate(arguments) if is_complex(value)]
    if not complex_indices:
        torch_internals.test_undefined_forward(func, as_tuple(raw_results), arguments)
        return
    # Torch's test takes real inputs alone: each part in turn.
    for part, part_function in zip(
        ("real", "imag"), torch_internals.split_complex_inputs(func, complex_indices, arguments), strict=True
    ):
        parts = [getattr(value, part) if is_complex(value) else value for value in arguments]
        torch_internals.test_undefined_forward(part_function, part_function(*parts), parts)
