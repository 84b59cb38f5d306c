"""What is told of attacks is what was seen of them, and memory that is taken is seen."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks import attack_clients, memory_attacks, process_memory, saved_results
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.parse import parse_problem
from tests.deployment.test_memory import OF_IMAGE


def test_planted_memory_of_a_child_is_seen() -> None:
    assert memory_attacks.is_control_seen(memory_attacks.run_control())
    assert not memory_attacks.is_control_seen(0)


def test_a_process_counts_with_those_that_it_has_begun() -> None:
    code = "import sys; held = b'1' * 2**25; print(flush=True); input()"
    piped = subprocess.PIPE
    alone = process_memory.measure_process_tree(os.getpid())
    with subprocess.Popen([sys.executable, "-c", code], stdin=piped, stdout=piped, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        together = process_memory.measure_process_tree(os.getpid())
        process.communicate("\n")
    assert together > alone + 2**24


def test_a_process_that_has_ended_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert process_memory.measure_process_tree(process.pid) == 0


LIMITS = Limits(bytes=int(OF_IMAGE["GRADCHECKD_MAX_BYTES"]), answer_bytes=int(OF_IMAGE["GRADCHECKD_MAX_ANSWER_BYTES"]))


@pytest.mark.parametrize(
    "request_",
    [request for name, requests, _ in memory_attacks.list_attacks() for request in requests if "400 x 400" not in name]
    + [attack_clients.build_large_answer()],
)
def test_every_attack_but_one_is_below_the_limits_of_the_image(request_: attack_clients.Request) -> None:
    _, problem = parse_problem(json.loads(json.dumps(request_)), LIMITS, model_language.parse_check_request)
    plan_within_limits(problem, LIMITS)


@pytest.fixture
def saved_document() -> dict[str, Any]:
    return json.loads((saved_results.RESULTS / "pressure.json").read_text())


CHANGED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (
        lambda document: document["rows"]["nobody"]["image"].update(bytes=2 * 2**30),
        "2147 MB at most (within 1 GiB: missed)",
    ),
    (lambda document: document["rows"]["nobody"]["default"].update(p99=3.0), "(below 2 s: missed)"),
    (lambda document: document["rows"]["nobody"]["default"].update(p99=None), "| -, "),
    (lambda document: document["rows"]["nobody"]["default"].update(amiss=100_000), " 100000 went amiss"),
    (lambda document: document.update(control=0), "is seen as 0 MiB (missed)"),
]


@pytest.mark.parametrize(("change", "said"), CHANGED)
def test_pressure_report_lists_its_findings(
    saved_document: dict[str, Any], change: Callable[[dict[str, Any]], Any], said: str
) -> None:
    for row in saved_document["rows"].values():
        for result in row.values():
            result["p99"] = 0.5
    assert said not in " ".join(memory_attacks.render_markdown(saved_document).split())
    change(saved_document)
    assert said in " ".join(memory_attacks.render_markdown(saved_document).split())


def test_kept_memory_attacks_saw_the_control_and_fit_into_the_image(saved_document: dict[str, Any]) -> None:
    assert memory_attacks.is_control_seen(saved_document["control"])
    assert list(saved_document["rows"]) == [name for name, *_ in memory_attacks.list_attacks()]
    assert max(row["image"]["bytes"] for row in saved_document["rows"].values()) <= memory_attacks.WANTED_BYTES
    assert set(saved_document["rows"]["max_pool2d, 120 x 120 on 400 x 400"]["image"]["statuses"]) == {"422"}
