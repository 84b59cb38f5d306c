"""Every setting: its name, default and description.

The environment variable GRADCHECKD_NAME sets NAME.
"""

import os
from typing import Annotated, Any, Self

from annotated_types import Ge, Gt, Le
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.checks.common.limits import Limits
from service.unknown_settings import find_unknown_settings, suggest_setting

PREFIX = "GRADCHECKD_"
_LIMITS = Limits()
RENAMED_SETTINGS = {
    "max_held_bytes": "max_buffered_body_bytes",
    "max_reading": "max_concurrent_reads",
    "max_waiting": "max_queued",
    "max_unread_seconds": "send_timeout_seconds",
}
"""Settings of version 0.1 under their present names; the old ones are refused, so that none is dropped in silence."""

Count = Annotated[int, Gt(0)]
Seconds = Annotated[float, Gt(0), Le(86_400)]
# A socket takes a time that rounds to 0 for no limit.
SocketTimeout = Annotated[float, Ge(0.001), Le(86_400)]


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
    max_names: Count = Field(
        default=_LIMITS.names, description="Most tensors and weights of a request, and most candidates."
    )
    max_nodes: Count = Field(default=_LIMITS.nodes, description="Most nodes of a model.")
    max_dimensions: Annotated[int, Gt(0), Le(24)] = Field(
        default=_LIMITS.dimensions, description="Most dimensions of a tensor or node; at most 24."
    )
    max_elements: Count = Field(
        default=_LIMITS.elements, description="Most elements that all tensors and nodes of a model may have together."
    )
    max_work: Count = Field(default=_LIMITS.work, description="Most multiply-adds of a check, by its estimate.")
    max_bytes: Count = Field(
        default=_LIMITS.bytes,
        description="Most bytes of memory of a check, by its estimate; its parsed JSON may take a quarter more.",
    )
    max_seconds: Seconds = Field(
        default=_LIMITS.seconds,
        description="Longest time from the head of a request to the end of its computation; then 422 with a smaller "
        "request that would fit, or 408 before the body is whole. The client must take the answer within half as much "
        "more.",
    )
    max_checks: Count = Field(default=2, description="Most requests that a worker computes at once.")
    max_small_checks: Annotated[int, Ge(0)] = Field(
        default=1,
        description="Most small checks, of up to 32 MiB and 5e+07 operations by their estimates, that a worker "
        "computes "
        "beside those while it is at capacity.",
    )
    max_queued: Annotated[int, Ge(0)] = Field(
        default=8,
        description="Most requests that wait in a worker for their turn to compute, and as many small checks; further "
        "ones get 503.",
    )
    max_wait_seconds: Seconds = Field(default=2.0, description="Longest wait of a request for its turn; then 503.")
    max_buffered_body_bytes: Count = Field(
        default=128 * 2**20,
        description="Most bytes of unparsed bodies in a worker; further ones get 503.",
    )
    max_answer_bytes: Count = Field(
        default=_LIMITS.answer_bytes,
        description="Most bytes of large answers that a worker keeps until their clients have taken them; further ones "
        "get 503, and a single answer that may be larger gets 422.",
    )
    max_concurrent_reads: Count = Field(
        default=16, description="Most bodies that a worker reads at once; further ones get 503."
    )
    max_head_seconds: Seconds = Field(
        default=10.0, description="Longest time for the head of a request to arrive; then 408."
    )
    max_body_seconds: Seconds = Field(
        default=30.0,
        description="Longest time for the body of a request to arrive, and a second more for each 64 KiB of "
        "it; then 408.",
    )
    max_stall_seconds: SocketTimeout = Field(
        default=10.0, description="Longest pause of a client within a request; then 408."
    )
    send_timeout_seconds: SocketTimeout = Field(
        default=30.0,
        description="Longest pause of a client while it takes its answer, and longest time for the whole "
        "answer, with a "
        "second more for each 64 KiB; then the connection is closed.",
    )
    max_sending: Count = Field(
        default=16,
        description="Most slow readers of a worker; beyond that, the slowest connection is closed.",
    )
    max_processes: Annotated[int, Gt(0), Le(64)] = Field(
        default=_LIMITS.processes,
        description="Most processes that compute one large check together, its worker included; at most 64. If it is "
        "not set, `make serve` takes the cores for each worker, 4 at most.",
    )
    jobs_url: str = Field(
        default="",
        description="Database of the jobs, as SQLAlchemy takes it: `sqlite:////data/jobs.db` or "
        "`postgresql+psycopg://user@host/name`. Without one, jobs are kept until the service ends, and not longer.",
    )
    job_ttl_seconds: Annotated[float, Gt(0), Le(366 * 86_400)] = Field(
        default=86_400.0, description="Time for which an ended job and its result are kept."
    )
    job_max_work: Count = Field(default=10**13, description="Most multiply-adds of a job, by its estimate.")
    job_max_seconds: Annotated[float, Gt(0), Le(30 * 86_400)] = Field(
        default=86_400.0, description="Longest time for which a job computes."
    )
    max_queued_jobs: Count = Field(default=1000, description="Most jobs that wait; further ones get 503.")
    max_running_jobs: Annotated[int, Gt(0), Le(64)] = Field(
        default=2, description="Most jobs that a machine computes at once; at most 64."
    )
    job_idle_seconds: Seconds = Field(
        default=60.0, description="Time without a job after which the process that computes jobs ends."
    )
    job_processes: Annotated[int, Ge(0), Le(64)] = Field(
        default=0, description="Processes that compute one large job together; 0, the default, for all cores."
    )
    scheduler: str = Field(
        default="",
        description="Scheduler of a dask cluster that computes large jobs, as `tls://host:8786`; by default the "
        "machine of the service does.",
    )
    max_job_bytes: Count = Field(
        default=2**30,
        description="Most bytes of all requests and results of jobs; further ones get 503.",
    )
    keys: SecretStr = Field(
        default=SecretStr(""),
        description="API keys, separated by commas, one of which each request must have; without any, the "
        "service is open.",
    )
    keys_file: str = Field(default="", description="A file of further keys, one a line; `#` begins a comment.")
    allowed_origins: str = Field(
        default="",
        description="Origins, separated by commas, whose pages may read answers (CORS), or `*`; none by default.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_old_names(cls, values: Any) -> Any:
        renamed = [name for name in sorted(os.environ) if _find_present_name(name) is not None]
        if renamed:
            raise ValueError("; ".join(f"{name} was renamed: set {_find_present_name(name)}" for name in renamed))
        return values

    @model_validator(mode="after")
    def _check_buffer_fits_largest_body(self) -> Self:
        largest = max(self.max_body_bytes, self.max_binary_bytes)
        if self.max_buffered_body_bytes < largest:
            raise ValueError(
                f"{PREFIX}MAX_BUFFERED_BODY_BYTES is {self.max_buffered_body_bytes}, less than the largest body: "
                f"set it to {largest} or more"
            )
        return self

    @model_validator(mode="after")
    def _refuse_misspelt_settings(self) -> Self:
        names = type(self).model_fields
        for name in find_unknown_settings(os.environ, PREFIX, names):
            if setting := suggest_setting(name, PREFIX, names):
                raise ValueError(f"{name} is not a setting: did you mean {setting}?")
        return self


def _find_present_name(variable: str) -> str | None:
    """Return the present name of a variable with an old name; None for all others."""
    present_name = RENAMED_SETTINGS.get(variable.lower().removeprefix(PREFIX.lower()))
    return f"{PREFIX}{present_name.upper()}" if present_name and variable.upper().startswith(PREFIX) else None
