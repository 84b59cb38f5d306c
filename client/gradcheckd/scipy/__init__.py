"""A drop-in replacement of `scipy.optimize.check_grad`.

    from gradcheckd.scipy import check_grad

    check_grad(func, grad, x0)

Importing this package imports scipy, unlike `import gradcheckd`.
"""

from gradcheckd.scipy.gradient_checker import check_grad

__all__ = ["check_grad"]
