"""Drop-in replacements of `torch.autograd.gradcheck` and `torch.autograd.gradgradcheck`, and checks of operators.

    from gradcheckd.torch import gradcheck

    gradcheck(func, inputs)

Importing this package imports torch, unlike `import gradcheckd`.
"""

from gradcheckd.directions import use_directions
from gradcheckd.torch.gradient_checkers import gradcheck, gradgradcheck
from gradcheckd.torch.mismatch_error import GradientMismatchError
from gradcheckd.torch.operator_harness import assert_operator, check_operator
from gradcheckd.torch.operator_report import OperatorError, OperatorLine, OperatorReport

__all__ = [
    "GradientMismatchError",
    "OperatorError",
    "OperatorLine",
    "OperatorReport",
    "assert_operator",
    "check_operator",
    "gradcheck",
    "gradgradcheck",
    "use_directions",
]
