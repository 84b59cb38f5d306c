"""Settings of a check: torch's parameters, the tolerance that a caller gave, and the directions."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gradcheckd.errors import RequestError

Directions = Literal["automatic", "random", "coordinates"]
_MAX_AUTOMATIC_COORDINATES = 16
"""Numbers of all inputs up to which each is moved alone by default: one line of points each, as 4 random ones."""
_directions: ContextVar[Directions] = ContextVar("directions", default="automatic")


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

    def choose_directions(self, size: int) -> Directions:
        """Return the kind of directions for inputs of some size in all."""
        directions = _directions.get()
        if directions != "automatic":
            return directions
        return "coordinates" if size <= _MAX_AUTOMATIC_COORDINATES and not self.fast_mode else "random"


@contextmanager
def use_directions(directions: Directions) -> Generator[None]:
    """Move inputs along other directions than by default, within a block.

    Parameters
    ----------
    directions
        "random": 4 of each input. "coordinates": each element alone, so that no wrong element is missed, at 18
        evaluations for each. "automatic", the default: coordinates for up to 16 elements in all unless `fast_mode`
        is set, and else random ones.

    Raises
    ------
    RequestError
        There are no such directions.
    """
    choices: tuple[Any, ...] = get_args(Directions)
    if directions not in choices:
        raise RequestError(f"directions is one of {', '.join(map(repr, choices))}; {directions!r} was given.")
    token = _directions.set(directions)
    try:
        yield
    finally:
        _directions.reset(token)
