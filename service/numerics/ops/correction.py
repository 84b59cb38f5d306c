"""The correction of a variance: the number that is taken off the count of its elements."""

from service.numerics.ops.op import ShapeError


def choose_correction(correction: float | None, unbiased: bool | None) -> float:
    """Return the correction, given that of an op and PyTorch's older name for 1 and 0.

    Raises
    ------
    ShapeError
        Both are given, and differ.
    """
    if unbiased is None:
        return 1 if correction is None else correction
    if correction not in (None, 1, int(unbiased)):
        raise ShapeError(f"a correction or unbiased, and not both: unbiased={unbiased} is correction={int(unbiased)}")
    return int(unbiased)
