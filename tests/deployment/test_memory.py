"""The memory that is given is enough for all that may run at once."""

import re

import pytest

from service.checks.common.limits import MAX_SMALL_BYTES
from service.settings import PREFIX, Settings
from tests.deployment import files

LOADED = 322e6
"""Bytes of a worker that has loaded torch: some 316 MB with 274 ops."""
IMAGE = 2**30
"""What `.ci/run` gives the image as it is."""


def estimate_needed_bytes(environment: dict[str, str]) -> float:
    """Bytes of all workers: loaded, with as many checks as may run, what waits for them, and answers that are sent."""
    fields = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and value.isdigit()
    }
    settings = Settings.model_validate(Settings().model_dump() | {name: int(value) for name, value in fields.items()})
    checks = 1.25 * (settings.max_checks * settings.max_bytes + settings.max_small_checks * MAX_SMALL_BYTES)
    held = settings.max_buffered_body_bytes + settings.max_answer_bytes
    return int(environment["WEB_CONCURRENCY"]) * (LOADED + held + checks)


SERVICE = files.load_compose()["services"]["gradcheckd"]
OF_IMAGE = dict(re.findall(r"\b(WEB_CONCURRENCY|GRADCHECKD_\w+|MALLOC_\w+)=(\d+)", files.DOCKERFILE))


@pytest.mark.parametrize(
    ("environment", "memory"),
    [(SERVICE["environment"], files.parse_bytes(SERVICE["mem_limit"])), (OF_IMAGE, IMAGE)],
    ids=["compose", "image"],
)
def test_as_much_as_may_run_fits(environment: dict[str, str], memory: int) -> None:
    assert estimate_needed_bytes(environment) <= memory
    workers = environment["WEB_CONCURRENCY"]
    assert estimate_needed_bytes({"WEB_CONCURRENCY": workers}) > memory, "so the defaults have to be lowered"


def test_the_runner_of_jobs_fits_beside_that() -> None:
    environment = OF_IMAGE | SERVICE["environment"]
    job = 1.25 * int(environment["GRADCHECKD_MAX_BYTES"])
    runner = LOADED + int(environment["GRADCHECKD_MAX_RUNNING_JOBS"]) * job
    assert environment["GRADCHECKD_JOB_PROCESSES"] == "1", "the runner computes by itself, or on the cluster"
    memory = files.parse_bytes(SERVICE["mem_limit"])
    assert estimate_needed_bytes(environment) + runner <= memory
    assert estimate_needed_bytes(environment | {"WEB_CONCURRENCY": "3"}) + runner > memory, "three workers do not fit"


def test_each_variable_of_the_image_is_a_setting() -> None:
    names = [name for name in OF_IMAGE if name.startswith(PREFIX)]
    assert names
    assert {name.removeprefix(PREFIX).lower() for name in names} <= set(Settings.model_fields)
