"""The base of all models of requests."""

import math

import pytest
from pydantic import ValidationError

from schemas.strict_model import Name, StrictModel


class Example(StrictModel):
    name: Name
    number: float = 1.0


@pytest.mark.parametrize(
    "value",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"name": "x", "more": 1},
        {"name": "x", "number": "1"},
        {"name": "x", "number": math.nan},
    ],
)
def test_nothing_is_converted_or_left_over(value):
    with pytest.raises(ValidationError):
        Example.model_validate(value)
    assert Example.model_validate({"name": "x" * 200, "number": 2}).number == 2.0
