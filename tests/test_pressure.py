"""What is told of attacks is what was seen of them, and memory that is taken is seen."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import attackers, footprint, kept, pressure
from service.checking import language
from service.checking.asked import asked
from service.checking.budget import planned
from service.checking.question import Limits
from tests.deployment.test_memory import OF_IMAGE


def test_planted_memory_of_a_child_is_seen() -> None:
    assert pressure.sees(pressure.control())
    assert not pressure.sees(0)


def test_a_process_counts_with_those_that_it_has_begun() -> None:
    code = "import sys; held = b'1' * 2**25; print(flush=True); input()"
    piped = subprocess.PIPE
    alone = footprint.held(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdin=piped, stdout=piped, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        together = footprint.held(os.getpid())
        process.communicate("\n")
    assert together > alone + 2**24


def test_a_process_that_has_ended_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert footprint.held(process.pid) == 0


LIMITS = Limits(bytes=int(OF_IMAGE["GRADCHECKD_MAX_BYTES"]), answer_bytes=int(OF_IMAGE["GRADCHECKD_MAX_ANSWER_BYTES"]))


@pytest.mark.parametrize(
    "request_",
    [each for name, requests, _ in pressure.attacks() for each in requests if "400 x 400" not in name]
    + [attackers.large_answer()],
)
def test_every_attack_but_one_is_below_the_limits_of_the_image(request_: attackers.Request) -> None:
    _, problem = asked(json.loads(json.dumps(request_)), LIMITS, language.parsed)
    planned(problem, LIMITS)


@pytest.fixture
def document() -> dict[str, Any]:
    return json.loads((kept.RESULTS / "pressure.json").read_text())


CHANGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda found: found["rows"]["nobody"]["image"].update(bytes=2 * 2**30), "2147 MB at most (within 1 GiB: missed)"),
    (lambda found: found["rows"]["nobody"]["default"].update(p99=3.0), "(below 2 s: missed)"),
    (lambda found: found["rows"]["nobody"]["default"].update(p99=None), "| -, "),
    (lambda found: found["rows"]["nobody"]["default"].update(amiss=100_000), " 100000 went amiss"),
    (lambda found: found.update(control=0), "is seen as 0 MiB (missed)"),
]


@pytest.mark.parametrize(("change", "said"), CHANGED)
def test_what_is_found_is_said(document: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str) -> None:
    for found in document["rows"].values():
        for each in found.values():
            each["p99"] = 0.5
    assert said not in " ".join(pressure.markdown(document).split())
    change(document)
    assert said in " ".join(pressure.markdown(document).split())


def test_what_was_kept_saw_the_control_and_fits_into_the_image(document: dict[str, Any]) -> None:
    assert pressure.sees(document["control"])
    assert list(document["rows"]) == [name for name, *_ in pressure.attacks()]
    assert max(found["image"]["bytes"] for found in document["rows"].values()) <= pressure.WANTED_BYTES
    assert set(document["rows"]["max_pool2d, 120 x 120 on 400 x 400"]["image"]["statuses"]) == {"422"}
