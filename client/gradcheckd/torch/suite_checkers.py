"""The checkers of torch that `pytest --gradcheckd` replaces."""

from gradcheckd.suite_replacement import SuiteChecker
from gradcheckd.torch import torch_internals
from gradcheckd.torch.gradient_checkers import gradcheck, gradgradcheck
from gradcheckd.torch.mismatch_error import GradientMismatchError

CHECKERS = tuple(
    SuiteChecker(
        module=torch_internals.MODULE,
        name=name,
        check=check,
        error=GradientMismatchError,
        other_error=torch_internals.GradcheckError,
    )
    for name, check in (
        (torch_internals.FIRST_ORDER_CHECKER, gradcheck),
        (torch_internals.SECOND_ORDER_CHECKER, gradgradcheck),
    )
)
