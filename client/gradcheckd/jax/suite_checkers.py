"""The checker of jax that `pytest --gradcheckd` replaces."""

from gradcheckd.jax.gradient_checker import DerivativeError, check_grads
from gradcheckd.suite_replacement import SuiteChecker

CHECKERS = (SuiteChecker(module="jax.test_util", name="check_grads", check=check_grads, error=DerivativeError),)
