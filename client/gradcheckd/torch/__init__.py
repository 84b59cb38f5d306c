"""Checks of code for torch: replacements of `torch.autograd.gradcheck`, checks of operators and of modules.

    from gradcheckd.torch import gradcheck

    gradcheck(func, inputs)

    from gradcheckd.torch import assert_module

    assert_module(module, inputs)

Importing this package imports torch, unlike `import gradcheckd`.
"""

from gradcheckd.directions import use_directions
from gradcheckd.torch.gradient_checkers import gradcheck, gradgradcheck
from gradcheckd.torch.mismatch_error import GradientMismatchError
from gradcheckd.torch.module_check import assert_module, check_module
from gradcheckd.torch.module_errors import ModuleImportError, UnsupportedOperator
from gradcheckd.torch.module_import import from_module
from gradcheckd.torch.module_report import ModuleReport
from gradcheckd.torch.module_request import Request
from gradcheckd.torch.operator_harness import assert_operator, check_operator
from gradcheckd.torch.operator_report import OperatorError, OperatorLine, OperatorReport

__all__ = [
    "GradientMismatchError",
    "ModuleImportError",
    "ModuleReport",
    "OperatorError",
    "OperatorLine",
    "OperatorReport",
    "Request",
    "UnsupportedOperator",
    "assert_module",
    "assert_operator",
    "check_module",
    "check_operator",
    "from_module",
    "gradcheck",
    "gradgradcheck",
    "use_directions",
]
