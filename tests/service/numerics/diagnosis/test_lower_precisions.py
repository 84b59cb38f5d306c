"""Precisions below another one."""

from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis.lower_precisions import list_lower_precisions


def test_lower_precisions_come_with_the_fewest_digits_first() -> None:
    assert [lower.name for lower in list_lower_precisions(PRECISIONS["FP32"])] == ["BF16", "FP16", "TF32"]
    assert list_lower_precisions(PRECISIONS["BF16"]) == []
