"""The base of all models of requests."""

from typing import Annotated

from annotated_types import MaxLen, MinLen
from pydantic import BaseModel, ConfigDict

from schemas.problem_details import MAX_NAME_LENGTH

Name = Annotated[str, MinLen(1), MaxLen(MAX_NAME_LENGTH)]


class StrictModel(BaseModel):
    """No conversions, no unknown fields."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )
