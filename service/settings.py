"""Every setting: its name, its default, its help. Set by environment variables, GRADCHECKD_ before the name."""

from typing import Annotated

from annotated_types import Gt, Le
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GRADCHECKD_"


class Settings(BaseSettings):
    """Settings of the service."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    max_body_bytes: Annotated[int, Gt(0)] = Field(default=16 * 2**20, description="Largest body of a request in JSON.")
    max_binary_bytes: Annotated[int, Gt(0)] = Field(
        default=64 * 2**20, description="Largest body of a request in the safetensors format."
    )
    max_depth: Annotated[int, Gt(0), Le(500)] = Field(
        default=64, description="Most lists and objects within one another in JSON; at most 500."
    )
    max_names: Annotated[int, Gt(0)] = Field(
        default=1000, description="Most tensors and weights of a request, and most candidates."
    )
    max_nodes: Annotated[int, Gt(0)] = Field(default=1000, description="Most nodes of a model.")
    max_elements: Annotated[int, Gt(0)] = Field(
        default=2**21, description="Most elements that all tensors and nodes of a model may have together."
    )
    max_work: Annotated[int, Gt(0)] = Field(
        default=10**11, description="Most multiply-adds that a check may be estimated to take."
    )
    max_bytes: Annotated[int, Gt(0)] = Field(
        default=2**30, description="Most memory, in bytes, that a check may be estimated to take beside its request."
    )
    max_seconds: Annotated[float, Gt(0)] = Field(
        default=60.0, description="Longest time for the finite differences of a check."
    )
