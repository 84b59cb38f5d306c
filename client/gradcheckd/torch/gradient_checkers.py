"""The replacements of torch's checkers, with their signatures."""

from collections.abc import Callable, Sequence

from torch import Tensor

from gradcheckd.torch.check_settings import DEFAULT_ATOL, DEFAULT_EPS, DEFAULT_RTOL, CheckSettings
from gradcheckd.torch.first_order_check import check_first_order
from gradcheckd.torch.function_values import as_tuple
from gradcheckd.torch.gradient_function import GradientFunction, make_grad_outputs
from gradcheckd.torch.mismatch_error import hide_frames
from gradcheckd.torch.torch_internals import GradcheckError

__tracebackhide__ = hide_frames


def gradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Tensor],
    *,
    eps: float = DEFAULT_EPS,
    atol: float = DEFAULT_ATOL,
    rtol: float = DEFAULT_RTOL,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Check gradients of a function by differences with measured error bounds; as `torch.autograd.gradcheck`.

    Each output is judged on its own. A check that the service cannot decide goes to torch's own comparison, with an
    `InconclusiveGradientWarning`.

    Parameters
    ----------
    func
        Function of the inputs; returns a tensor or a tuple of tensors, of which those that require no gradient are left
        out.
    inputs
        A tensor or a tuple; those that require a gradient are moved.
    eps
        Step of torch's own comparison. The check itself chooses its steps by the noise that it measures.
    atol, rtol
        Allowed error, if you give one of them. By default only rounding is allowed.
    raise_exception
        False to return False for a wrong gradient.
    nondet_tol
        Largest difference of two backward passes.
    check_undefined_grad
        True to test that undefined gradients of outputs count as zeros.
    check_grad_dtypes
        True to test that gradients have the datatypes of their inputs.
    check_batched_grad, check_batched_forward_grad
        True to test that vmap over backward or forward mode has the same results.
    check_forward_ad, check_backward_ad
        Modes to check. With both, they are also held against each other.
    fast_mode
        True for 4 random directions of each input. By default inputs with up to 16 elements in all are moved element by
        element, and others along random directions.
    masked
        True for functions that leave out missing elements of sparse inputs; False for those that read zeros there.

    Returns
    -------
    bool
        True. False for a wrong gradient with `raise_exception=False`.

    Raises
    ------
    GradientMismatchError
        A gradient is wrong; the message is the report. It is a `GradcheckError` of torch.
    GradcheckError
        Another test of torch's fails.
    GradcheckdError
        There is no service.
    """
    settings = CheckSettings(
        eps=eps,
        atol=atol,
        rtol=rtol,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_batched_forward_grad=check_batched_forward_grad,
        check_forward_ad=check_forward_ad,
        check_backward_ad=check_backward_ad,
        fast_mode=fast_mode,
        masked=masked,
    )
    try:
        check_first_order(func, inputs, settings)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    *,
    eps: float = DEFAULT_EPS,
    atol: float = DEFAULT_ATOL,
    rtol: float = DEFAULT_RTOL,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Check second derivatives by differences of gradients; as `torch.autograd.gradgradcheck`.

    The function to check takes the inputs and the gradients of the outputs, and returns the gradients of the inputs.
    These are taken as correct: check them with `gradcheck`.

    Parameters
    ----------
    func, inputs
        As in `gradcheck`.
    grad_outputs
        Gradients of the outputs; by default random ones in [-1, 1].
    gen_non_contig_grad_outputs
        True to make random ones non-contiguous.
    check_fwd_over_rev, check_rev_over_rev
        Modes of the second derivative to check.
    eps, atol, rtol, raise_exception, nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad
        As in `gradcheck`.
    fast_mode, masked
        As in `gradcheck`.

    Returns
    -------
    bool
        As `gradcheck`.

    Raises
    ------
    GradientMismatchError, GradcheckError, GradcheckdError
        As `gradcheck`.
    """
    _refuse_unfit_modes(check_undefined_grad or check_batched_grad, check_fwd_over_rev, check_rev_over_rev)
    arguments = as_tuple(inputs)
    upstream = (
        make_grad_outputs(func, arguments, noncontiguous=gen_non_contig_grad_outputs)
        if grad_outputs is None
        else as_tuple(grad_outputs)
    )
    return gradcheck(
        GradientFunction(func, arguments, upstream),
        arguments + upstream,
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


def _refuse_unfit_modes(needs_reverse: bool, is_forward: bool, is_reverse: bool) -> None:
    # With torch's kind of error, since suites test for it.
    if not (is_forward or is_reverse):
        raise AssertionError("Set check_fwd_over_rev=True or check_rev_over_rev=True; with neither, nothing is left.")
    if needs_reverse and not is_reverse:
        raise AssertionError("check_undefined_grad=True and check_batched_grad=True need check_rev_over_rev=True.")
