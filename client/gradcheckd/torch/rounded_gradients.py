"""Second derivatives that are nothing but the rounding of larger ones of the same backward pass.

The backward pass of a saturated softmax returns p (g - sum(p g)). With p = 1 up to a rounding of u the difference is
one of u g, although the gradient is 0 in all digits. That rounding does not scatter: it is a smooth function of all
that it is multiplied with, and so has a derivative, of which the second backward pass knows nothing. Neither is right.

It shows by its size. Let H_kl be the derivative of the gradient by x_k by the input x_l, and s_k the largest element
of x_k. Then |H_kl| s_k s_l is what it amounts to over the sizes of both, in the unit of the outputs, which all share.
So a difference of

    256 u max_kl(|H_kl| s_k s_l) / (s_i s_j)                                                                        (1)

in H_ij tells nothing: neither that it is wrong, nor that it is right.
"""

from collections.abc import Mapping

import numpy as np

from gradcheckd.report import BlackBoxReport
from gradcheckd.report_parts import Verdict
from gradcheckd.torch.small_differences import measure_size

_LOST_ROUNDOFFS = 256.0
"""The rounding that the service allows the elements of one tensor, too."""


def find_lost_differences(report: BlackBoxReport, sizes: Mapping[str, float], unit_roundoff: float) -> dict[str, float]:
    """Return (1) for each verdict on an output with an input.

    Parameters
    ----------
    report
        Report of a check of second derivatives.
    sizes
        s by the name of an output, whose gradient that is, and of an input.
    unit_roundoff
        That of the least precise datatype.
    """
    units = {name: np.prod([sizes[part] for part in name.split("/")]) for name in report.verdicts if "/" in name}
    effects = [_measure_derivative(report.verdicts[name]) * unit for name, unit in units.items()]
    largest = max(effects, default=0.0)
    return {name: float(_LOST_ROUNDOFFS * unit_roundoff * largest / unit) for name, unit in units.items()}


def _measure_derivative(verdict: Verdict) -> float:
    return measure_size(verdict.directions or verdict.worst)
