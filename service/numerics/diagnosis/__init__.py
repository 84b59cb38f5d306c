"""The catalogue of bugs.

Each entry simulates the gradient of its bug, and recognises the bug by that.
"""

from service.numerics.diagnosis.bug import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.bugs import (
    added_terms,
    arrangement,
    clipping,
    moments,
    multipliers,
    precision_and_range,
    reduction,
    scaling,
    shift,
    softmax_from_primitives,
)
from service.numerics.diagnosis.bugs.known_factors import format_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.diagnose import NO_TIME_EXPLANATION, UNKNOWN_BUG, diagnose_gradients
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.diagnosis.inject import InjectedBug, describe_bugs, inject_bugs

__all__ = [
    "BACKWARD_BUGS",
    "GRADIENT_BUGS",
    "NO_TIME_EXPLANATION",
    "UNKNOWN_BUG",
    "BugExplanation",
    "DiagnosisContext",
    "InjectedBug",
    "describe_bugs",
    "diagnose_gradients",
    "format_factor",
    "inject_bugs",
]

_BUG_FAMILIES = (
    added_terms,
    arrangement,
    clipping,
    moments,
    multipliers,
    precision_and_range,
    reduction,
    scaling,
    shift,
    softmax_from_primitives,
)
"""Files whose import registers their bugs. The order of the imports is that of the search."""
