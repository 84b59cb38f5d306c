"""The checker of scipy that `pytest --gradcheckd` replaces."""

import functools

from gradcheckd.errors import GradientError
from gradcheckd.scipy.gradient_checker import check_grad
from gradcheckd.suite_replacement import SuiteChecker

CHECKERS = (
    SuiteChecker(
        module="scipy.optimize",
        name="check_grad",
        # Scipy returns a distance, and each test has a limit of its own, which a small error may keep.
        check=functools.partial(check_grad, raise_exception=True),
        error=GradientError,
        returns_verdict=False,
    ),
)
