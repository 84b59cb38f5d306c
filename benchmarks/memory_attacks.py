"""What the service holds of the memory while attackers below every limit are at it, and how small checks fare beside.

Each attack goes on for some seconds against two workers, with the limits of the image and with the default ones, while
two clients send the reference example; its sizes are the same under both. What is measured is the largest proportional
share (PSS) of master and workers together that was seen in looks 20 ms apart, the page cache aside.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from benchmarks import attack_clients, process_memory, saved_results, tables
from benchmarks.load import EXAMPLE_REQUEST
from benchmarks.load_client import ExpectedAnswer, count_answers
from benchmarks.local_server import ROOT, RunningService, run_server
from benchmarks.machine_info import describe_machine, list_versions

ATTACK_SECONDS = 15
SLOW_READERS = 36
SMALL_CLIENTS = 2
"""Who send small checks beside."""
WANTED_BYTES = 2**30
"""Of the image."""
WANTED_SECONDS = 2.0
PLANTED_BYTES = 64 * 2**20
"""Bytes that the control holds, of which the looks have to tell."""
WORKERS = 2

Document = Mapping[str, Any]
Requests = list[attack_clients.Request]

_REQUESTS_BY_ATTACK: Mapping[str, Requests] = {
    "conv2d, 60 x 60": [attack_clients.build_convolution("conv2d", 60, 255)],
    "conv2d, 100 x 100": [attack_clients.build_convolution("conv2d", 100, 255)],
    "conv2d, 60 x 60, with a candidate": [
        attack_clients.add_wrong_candidate(attack_clients.build_convolution("conv2d", 60, 255))
    ],
    "conv_transpose2d, 60 x 60": [attack_clients.build_convolution("conv_transpose2d", 60, 230)],
    "max_pool2d, 120 x 120 on 260 x 260": [attack_clients.build_pooling(260)],
    "max_pool2d, 120 x 120 on 400 x 400": [attack_clients.build_pooling(400)],
    "100 nodes in a chain": [attack_clients.build_chain(100, 4_000)],
    "the same, with a candidate": [attack_clients.add_wrong_candidate(attack_clients.build_chain(100, 4_000))],
    "layer_norm of 72,000": [attack_clients.build_norm(72_000)],
}


def list_attacks() -> Iterator[tuple[str, Requests, int]]:
    """What each attack is called, what its clients send, and how many read an answer slowly beside them."""
    yield "nobody", [], 0
    yield f"{SLOW_READERS} slow readers", [], SLOW_READERS
    for name, requests in _REQUESTS_BY_ATTACK.items():
        yield name, requests, 0
    large = [*_REQUESTS_BY_ATTACK["conv2d, 100 x 100"], *_REQUESTS_BY_ATTACK["conv_transpose2d, 60 x 60"]]
    yield f"two large kernels, {SLOW_READERS} slow readers", large, SLOW_READERS
    other = [*_REQUESTS_BY_ATTACK["max_pool2d, 120 x 120 on 260 x 260"], *_REQUESTS_BY_ATTACK["layer_norm of 72,000"]]
    yield f"pooling and layer_norm, {SLOW_READERS} slow readers", other, SLOW_READERS


def read_image_settings() -> dict[str, str]:
    """The settings of the image, and those of its allocator."""
    return dict(re.findall(r"\b(GRADCHECKD_\w+|MALLOC_\w+)=(\d+)", (ROOT / "Dockerfile").read_text()))


SETTINGS: Mapping[str, Mapping[str, str]] = {"image": read_image_settings(), "default": {}}


def measure_attacks(seconds: float) -> dict[str, Any]:
    """Rows of every attack under both settings, and what the control tells."""
    rows: dict[str, dict[str, Any]] = {name: {} for name, *_ in list_attacks()}
    for setting, variables in SETTINGS.items():
        with run_server(WORKERS, variables) as serving:
            for name, requests, readers in list_attacks():
                rows[name][setting] = measure_attack(serving, requests, readers, seconds)
    return {"seconds": seconds, "rows": rows, "control": run_control()}


def measure_attack(serving: RunningService, requests: Requests, readers: int, seconds: float) -> dict[str, Any]:
    """Figures of one attack."""
    before = serving.workers()
    with (
        process_memory.watch_peak(serving.master_pid) as most,
        attack_clients.run_attackers(serving.port, requests, readers) as attacking,
    ):
        until = time.monotonic() + seconds
        small = count_answers(
            serving.port, EXAMPLE_REQUEST, ExpectedAnswer(), SMALL_CLIENTS, lambda: time.monotonic() < until
        )
    if serving.workers() != before:
        raise SystemExit("a worker ended")
    return {
        "bytes": most.bytes,
        "p99": round(small.compute_percentile(99), 4) if small.seconds else None,
        "answered": len(small.seconds),
        "refused": small.refused,
        "amiss": small.error_count,
        "statuses": {str(status): count for status, count in sorted(attacking.statuses.items())},
    }


def run_control() -> int:
    """Bytes by which the looks tell that a process of its own grows that holds so many more."""
    code = f"import sys; print(flush=True); input(); held = b'1' * {PLANTED_BYTES}; print(flush=True); input()"
    piped = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=piped, stdout=piped, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = process_memory.measure_process_tree(process.pid)
        with process_memory.watch_peak(process.pid) as most:
            print(file=process.stdin, flush=True)
            process.stdout.readline()
        print(file=process.stdin, flush=True)
    return most.bytes - before


def is_control_seen(byte_count: int) -> bool:
    """Whether a control tells what was planted, within a twentieth."""
    return abs(byte_count - PLANTED_BYTES) < PLANTED_BYTES / 20


def render_markdown(document: Document) -> str:
    """The table that a document quotes."""
    head = [
        "beside small checks",
        *(f"{what}, {setting}" for setting in SETTINGS for what in ("memory", "p99, refused")),
    ]
    rows = [
        [name, *chain.from_iterable(_format_cells(row[setting]) for setting in SETTINGS)]
        for name, row in document["rows"].items()
    ]
    return (
        "\n\n".join(
            [
                tables.write_table(head, rows),
                tables.wrap_prose(describe_results(document)),
                tables.describe_origin(document),
            ]
        )
        + "\n"
    )


def _format_cells(result: Document) -> tuple[str, str]:
    too_large = " (422)" if set(result["statuses"]) == {"422"} else ""
    p99 = "-" if result["p99"] is None else tables.format_duration(result["p99"])
    sent = result["answered"] + result["refused"] + result["amiss"]
    return f"{result['bytes'] / 1e6:.0f} MB{too_large}", f"{p99}, {result['refused']:,} of {sent:,}"


def describe_results(document: Document) -> str:
    """What the figures come to."""
    rows = document["rows"].values()
    most = max(row["image"]["bytes"] for row in rows)
    results = [row[setting] for row in rows for setting in SETTINGS]
    slowest = max(result["p99"] for result in results if result["p99"] is not None)
    starved = sum(result["p99"] is None for result in results)
    amiss, seen = sum(result["amiss"] for result in results), document["control"] / 2**20
    return (
        f"Attacks of {document['seconds']:g} s each on {WORKERS} workers, with the limits of the image and the default "
        f"ones, while {SMALL_CLIENTS} clients send the reference example: the most that master and workers hold "
        f"together (PSS, looked at every "
        f"{1e3 * process_memory.SAMPLE_SECONDS:.0f} ms), within what 99 % of the checks that have a "
        "place are answered, and how many have none at once (503). (422): that is more than is taken. With the limits "
        f"of the image {most / 1e6:.0f} MB at most (within 1 GiB: {tables.describe_target(most <= WANTED_BYTES)}); p99 "
        f"{tables.format_duration(slowest)} at most "
        f"(below 2 s: {tables.describe_target(slowest < WANTED_SECONDS and not starved)}); at "
        f"{starved} of {len(results)} attacks no small check had a place; of these checks {amiss} went amiss. The "
        f"negative control, {PLANTED_BYTES / 2**20:.0f} MiB that a process of its own takes "
        f"meanwhile, is seen as {seen:.0f} MiB ({tables.describe_target(is_control_seen(document['control']))})."
    )


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_attacks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=ATTACK_SECONDS, help="for each attack under each setting")
    document = measure_attacks(parser.parse_args().seconds)
    result = {**document, "machine": describe_machine(), "versions": list_versions(("gunicorn", "numpy", "torch"))}
    print(render_markdown(result))
    saved_results.save_results("pressure", result, render_markdown(result), render_markdown(result))


if __name__ == "__main__":
    main()
