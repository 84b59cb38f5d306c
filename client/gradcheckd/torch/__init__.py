"""Drop-in replacements of `torch.autograd.gradcheck` and `torch.autograd.gradgradcheck`.

    from gradcheckd.torch import gradcheck

    gradcheck(func, inputs)

Importing this package imports torch, unlike `import gradcheckd`.
"""

from gradcheckd.torch.check_settings import use_directions
from gradcheckd.torch.gradient_checkers import gradcheck, gradgradcheck
from gradcheckd.torch.mismatch_error import GradientMismatchError

__all__ = ["GradientMismatchError", "gradcheck", "gradgradcheck", "use_directions"]
