"""A drop-in replacement of `jax.test_util.check_grads`.

    from gradcheckd.jax import check_grads

    check_grads(f, args, order=2)

Importing this package imports jax, unlike `import gradcheckd`.
"""

from gradcheckd.jax.gradient_checker import DerivativeError, check_grads

__all__ = ["DerivativeError", "check_grads"]
