"""Every setting: its name, its default, its help. Set by environment variables, GRADCHECKD_ before the name."""

from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "GRADCHECKD_"

Count = Annotated[int, Gt(0)]
Seconds = Annotated[float, Gt(0), Le(86_400)]
# To a socket, a time that rounds to nothing would be no limit.
Patience = Annotated[float, Ge(0.001), Le(86_400)]


class Settings(BaseSettings):
    """Settings of the service."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    max_body_bytes: Count = Field(default=16 * 2**20, description="Largest body of a request in JSON.")
    max_binary_bytes: Count = Field(
        default=64 * 2**20, description="Largest body of a request in the safetensors format."
    )
    max_depth: Annotated[int, Gt(0), Le(500)] = Field(
        default=64, description="Most lists and objects within one another in JSON; at most 500."
    )
    max_names: Count = Field(default=1000, description="Most tensors and weights of a request, and most candidates.")
    max_nodes: Count = Field(default=1000, description="Most nodes of a model.")
    max_dimensions: Annotated[int, Gt(0), Le(24)] = Field(
        default=24, description="Most dimensions of a tensor or node; at most 24."
    )
    max_elements: Count = Field(
        default=2**21, description="Most elements that all tensors and nodes of a model may have together."
    )
    max_work: Count = Field(default=10**11, description="Most multiply-adds that a check may be estimated to take.")
    max_bytes: Count = Field(
        default=2**30, description="Most memory, in bytes, that a check may be estimated to take beside its request."
    )
    max_seconds: Seconds = Field(
        default=60.0, description="Longest time for the finite differences of a check, and for planting bugs."
    )
    max_checks: Count = Field(default=2, description="Most requests that a worker computes at once.")
    max_waiting: Annotated[int, Ge(0)] = Field(
        default=8, description="Most requests that wait in a worker for their turn to compute; further ones get 503."
    )
    max_wait_seconds: Seconds = Field(
        default=2.0, description="Longest time that a request waits for its turn before it gets 503."
    )
    max_reading: Count = Field(default=16, description="Most bodies that a worker reads at once; further ones get 503.")
    max_head_seconds: Seconds = Field(
        default=10.0, description="Longest time for the head of a request to come; then 408."
    )
    max_body_seconds: Seconds = Field(
        default=30.0, description="Longest time for the whole body of a request to come; then 408."
    )
    max_stall_seconds: Patience = Field(
        default=3.0, description="Longest time in which nothing of an unfinished request comes; then 408."
    )
    max_unread_seconds: Patience = Field(
        default=30.0, description="Longest time in which a client takes nothing of its answer; then it is cut off."
    )
    keys: SecretStr = Field(
        default=SecretStr(""),
        description="Keys, separated by commas, one of which a request must bear; without any, all may ask.",
    )
    keys_file: str = Field(default="", description="A file of further keys, one a line; `#` begins a comment.")
    allowed_origins: str = Field(
        default="",
        description="Origins, separated by commas, whose pages may read answers (CORS), or `*`; without any, none may.",
    )
