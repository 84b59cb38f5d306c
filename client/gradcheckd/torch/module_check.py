"""Checks of modules of torch: the gradients of their own backward pass, against a graph of their forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from gradcheckd.candidate_runs import check_repeats
from gradcheckd.errors import RequestError, hide_frames
from gradcheckd.report import require_pass
from gradcheckd.service import Service
from gradcheckd.torch.module_arguments import ModuleArguments
from gradcheckd.torch.module_errors import ModuleImportError
from gradcheckd.torch.module_gradients import run_backward
from gradcheckd.torch.module_import import find_judged, make_request
from gradcheckd.torch.module_parts import find_parts, list_parameters
from gradcheckd.torch.module_recipe import choose_arithmetic, find_unit_roundoff
from gradcheckd.torch.module_report import ModuleReport, add_places
from gradcheckd.torch.module_request import Request
from gradcheckd.torch.module_trace import trace_module

__tracebackhide__ = hide_frames


def check_module(
    module: Callable[..., Any],
    args: Any,
    *,
    kwargs: Mapping[str, Any] | None = None,
    reference: Callable[..., Any] | None = None,
    candidate_dtype: Any = None,
    recipe: str | Mapping[str, Any] | None = None,
    repeats: int = 0,
    loss: Callable[..., Any] | None = None,
    output: str | None = None,
    seed: int = 0,
    url: str | None = None,
    key: str | None = None,
    timeout: float = 150.0,
    **options: Any,
) -> ModuleReport:
    """Check the backward pass of a module or function of torch.

    The forward pass becomes a graph in float64, whose gradients the service finds by differences and by two routes of
    its own. The gradients of the module's own backward pass are judged by them. The graph follows the forward pass of
    a `torch.autograd.Function`, not its backward pass, so that a bug there is found.

    Parameters
    ----------
    module
        `torch.nn.Module`, or a function of tensors, such as `Function.apply`. In any datatype, on any device.
    args, kwargs
        Arguments: a tensor or a sequence, and a mapping. The gradients of all parameters that require one are judged,
        and those of the inputs with `requires_grad`, or, if none has it, of all tensors of floats.
    reference
        Module or function of plain torch that computes the same, where the module itself cannot be traced. A module
        has parameters of the same names; a function may read those of the module.
    candidate_dtype
        Arithmetic of the module's gradients; by default the least precise datatype of parameters and inputs, and of
        casts within the module.
    recipe
        Places where the kernels round. "eager", the default: each node, as in PyTorch's own kernels. "flash": the
        stored gradients of one fused kernel; of attention also the output and the factors of the products within. Or a
        mapping, as `candidate_dtype` of `gradcheckd.check` takes it.
    repeats
        Further runs of the backward pass: kernels with atomic additions add in another order each time. Gradients that
        differ by more fail.
    loss
        Function of the result that returns the loss, as in `from_module`.
    output
        Name of the one output to judge, as in `from_module`.
    seed
        Seed of all random numbers.
    url, key
        Address and key of the service.
    timeout
        Seconds to wait for an answer of the service.
    options
        Further parameters of `gradcheckd.check`, such as `finite_difference` or `tolerance`.

    Returns
    -------
    ModuleReport
        Verdict on each parameter and input, and the lines of source of the nodes.

    Raises
    ------
    ModuleImportError
        The module cannot be imported, or a value that stays fixed is too near to a jump for this arithmetic.
    ProblemError
        The service refuses the request.
    RequestError
        The recipe or the number of runs has no meaning.
    """
    run_count = check_repeats(repeats)
    arguments = ModuleArguments.bind(module, args, kwargs)
    parts = find_parts(module, None)
    parameters = list_parameters(parts)
    judged = find_judged(arguments, parameters)
    traced = trace_module(
        module if reference is None else reference,
        arguments,
        owner=None if reference is None else _find_owner(module),
        loss=loss,
        output=output,
    )
    request = make_request(traced, arguments, parts, seed)
    arithmetic = choose_arithmetic(request, recipe, candidate_dtype)
    _refuse_near_jumps(request, arithmetic)

    def run() -> dict[str, Tensor | None]:
        return run_backward(module, arguments, judged, request.cotangents, parts=parts, loss=loss, output=output)

    request, candidate = _pair(request, judged, run())
    fields: dict[str, Any] = {**request, "candidate_dtype": arithmetic, "seed": seed, **options}
    if run_count:
        runs = [_fill_missing(judged, run()) for _ in range(run_count)]
        fields["repeats"] = {name: [gradients[name] for gradients in runs] for name in candidate}
    with Service(url, key, timeout=timeout) as service:
        return add_places(service.check(candidate=candidate, wait=True, **fields), request.places)


def assert_module(module: Callable[..., Any], args: Any, **options: Any) -> ModuleReport:
    """Raise an AssertionError unless the gradients of a module pass; parameters are those of `check_module`.

    Raises
    ------
    GradientError
        A gradient is wrong, or the check was inconclusive. The message is the report, in at most 25 lines.
    """
    return require_pass(check_module(module, args, **options))


def _find_owner(module: Any) -> torch.nn.Module | None:
    return module if isinstance(module, torch.nn.Module) else None


def _refuse_near_jumps(request: Request, arithmetic: Any) -> None:
    roundoff = find_unit_roundoff(arithmetic)
    for value in request.fixed:
        if value.margin < value.least_roundoffs * roundoff:
            raise ModuleImportError(
                f"{value.operator} at {value.place} may come out otherwise in {arithmetic}: at this point it is within "
                f"{value.margin:.1e} of a jump, relative to its numbers. Take other inputs, or a wider datatype."
            )


def _pair(
    request: Request, judged: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]
) -> tuple[Request, dict[str, Tensor]]:
    """Return the request and its candidate: a gradient that is None is one of zeros.

    A gradient that is not 0 of a tensor on which the forward pass does not depend is judged, too.
    """
    candidate = _fill_missing(judged, gradients)
    extra = [name for name in request.unused if bool((candidate[name] != 0).any())]
    request = request.include_unused(extra)
    chosen = {name: candidate[name] for name in request.with_respect_to}
    if not chosen:
        raise RequestError("The loss depends on no parameter and no input that is judged.")
    return request, chosen


def _fill_missing(judged: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Return the gradients, zeros for each that is None."""
    return {
        name: torch.zeros_like(judged[name]) if gradient is None else gradient.detach()
        for name, gradient in gradients.items()
    }
