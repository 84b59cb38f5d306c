"""The memory that is given is enough for all that may run at once."""

from service.settings import Settings
from tests.deployment import files

LOADED = 300e6
"""Bytes of a worker that has loaded torch: `make load` measures some 290 MB."""


def needed(workers: int, checks: int, max_bytes: int) -> float:
    return workers * (LOADED + checks * max_bytes)


def test_as_many_checks_as_may_run_fit() -> None:
    service = files.compose()["services"]["gradcheckd"]
    workers, max_bytes = (int(service["environment"][name]) for name in ("WEB_CONCURRENCY", "GRADCHECKD_MAX_BYTES"))
    memory = files.size(service["mem_limit"])
    assert needed(workers, Settings().max_checks, max_bytes) <= memory
    assert needed(workers, Settings().max_checks, Settings().max_bytes) > memory, "so the default has to be lowered"
