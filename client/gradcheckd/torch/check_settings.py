"""Settings of a check: torch's parameters, and the tolerance that a caller gave."""

from dataclasses import dataclass


class DefaultNumber(float):
    """A default of torch's, to tell it from the same number of a caller."""


DEFAULT_EPS, DEFAULT_ATOL, DEFAULT_RTOL = DefaultNumber(1e-6), DefaultNumber(1e-5), DefaultNumber(1e-3)


@dataclass(frozen=True)
class CheckSettings:
    """Parameters of `torch.autograd.gradcheck` that say how to check; each has its meaning there.

    Attributes
    ----------
    eps
        Step of torch's own comparison, for undecided checks.
    atol, rtol
        Tolerances; as defaults of torch for undecided checks alone.
    """

    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    check_undefined_grad: bool
    check_grad_dtypes: bool
    check_batched_grad: bool
    check_batched_forward_grad: bool
    check_forward_ad: bool
    check_backward_ad: bool
    fast_mode: bool
    masked: bool | None

    def __post_init__(self) -> None:
        # With torch's kind of error, since suites test for it.
        if not (self.check_forward_ad or self.check_backward_ad):
            raise AssertionError("Set check_forward_ad=True or check_backward_ad=True; with neither, nothing is left.")
        if self.check_batched_grad and not self.check_backward_ad:
            raise AssertionError("check_batched_grad=True needs check_backward_ad=True.")
        if self.check_batched_forward_grad and not self.check_forward_ad:
            raise AssertionError("check_batched_forward_grad=True needs check_forward_ad=True.")

    @property
    def tolerance(self) -> dict[str, float] | None:
        """Return the tolerance of the caller, 0 for a number that was left out; None if both were."""
        given = {"atol": self.atol, "rtol": self.rtol}
        tolerance = {name: float(number) for name, number in given.items() if not isinstance(number, DefaultNumber)}
        return tolerance or None
