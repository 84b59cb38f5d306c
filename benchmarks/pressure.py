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

from benchmarks import attackers, footprint, kept, tables
from benchmarks.asking import Expected, tallied
from benchmarks.load import REQUEST
from benchmarks.machine import machine, versions
from benchmarks.serving import ROOT, Serving, server

SECONDS = 15
READERS = 36
CLIENTS = 2
"""Who send small checks beside."""
WANTED_BYTES = 2**30
"""Of the image."""
WANTED_SECONDS = 2.0
PLANTED = 64 * 2**20
"""Bytes that the control holds, of which the looks have to tell."""
WORKERS = 2

Document = Mapping[str, Any]
Requests = list[attackers.Request]

_KINDS: Mapping[str, Requests] = {
    "conv2d, 60 x 60": [attackers.convolution("conv2d", 60, 255)],
    "conv2d, 100 x 100": [attackers.convolution("conv2d", 100, 255)],
    "conv2d, 60 x 60, with a candidate": [attackers.wrong(attackers.convolution("conv2d", 60, 255))],
    "conv_transpose2d, 60 x 60": [attackers.convolution("conv_transpose2d", 60, 230)],
    "max_pool2d, 120 x 120 on 260 x 260": [attackers.pooling(260)],
    "max_pool2d, 120 x 120 on 400 x 400": [attackers.pooling(400)],
    "100 nodes in a chain": [attackers.chain(100, 4_000)],
    "the same, with a candidate": [attackers.wrong(attackers.chain(100, 4_000))],
    "layer_norm of 72,000": [attackers.norm(72_000)],
}


def attacks() -> Iterator[tuple[str, Requests, int]]:
    """What each attack is called, what its clients send, and how many read an answer slowly beside them."""
    yield "nobody", [], 0
    yield f"{READERS} slow readers", [], READERS
    for name, requests in _KINDS.items():
        yield name, requests, 0
    large = [*_KINDS["conv2d, 100 x 100"], *_KINDS["conv_transpose2d, 60 x 60"]]
    yield f"two large kernels, {READERS} slow readers", large, READERS
    other = [*_KINDS["max_pool2d, 120 x 120 on 260 x 260"], *_KINDS["layer_norm of 72,000"]]
    yield f"pooling and layer_norm, {READERS} slow readers", other, READERS


def of_image() -> dict[str, str]:
    """The settings of the image, and those of its allocator."""
    return dict(re.findall(r"\b(GRADCHECKD_\w+|MALLOC_\w+)=(\d+)", (ROOT / "Dockerfile").read_text()))


SETTINGS: Mapping[str, Mapping[str, str]] = {"image": of_image(), "default": {}}


def measured(seconds: float) -> dict[str, Any]:
    """Rows of every attack under both settings, and what the control tells."""
    rows: dict[str, dict[str, Any]] = {name: {} for name, *_ in attacks()}
    for setting, variables in SETTINGS.items():
        with server(WORKERS, variables) as serving:
            for name, requests, readers in attacks():
                rows[name][setting] = row(serving, requests, readers, seconds)
    return {"seconds": seconds, "rows": rows, "control": control()}


def row(serving: Serving, requests: Requests, readers: int, seconds: float) -> dict[str, Any]:
    """Figures of one attack."""
    before = serving.workers()
    with (
        footprint.watched(serving.master) as most,
        attackers.attacking(serving.port, requests, readers) as attacking,
    ):
        until = time.monotonic() + seconds
        small = tallied(serving.port, REQUEST, Expected(), CLIENTS, lambda: time.monotonic() < until)
    if serving.workers() != before:
        raise SystemExit("a worker ended")
    return {
        "bytes": most.bytes,
        "p99": round(small.percentile(99), 4) if small.seconds else None,
        "answered": len(small.seconds),
        "refused": small.refused,
        "amiss": small.amiss,
        "statuses": {str(status): count for status, count in sorted(attacking.statuses.items())},
    }


def control() -> int:
    """Bytes by which the looks tell that a process of its own grows that holds so many more."""
    code = f"import sys; print(flush=True); input(); held = b'1' * {PLANTED}; print(flush=True); input()"
    piped = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=piped, stdout=piped, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        before = footprint.held(process.pid)
        with footprint.watched(process.pid) as most:
            print(file=process.stdin, flush=True)
            process.stdout.readline()
        print(file=process.stdin, flush=True)
    return most.bytes - before


def sees(found: int) -> bool:
    """Whether a control tells what was planted, within a twentieth."""
    return abs(found - PLANTED) < PLANTED / 20


def markdown(document: Document) -> str:
    """The table that the README quotes."""
    head = [
        "beside small checks",
        *(f"{what}, {setting}" for setting in SETTINGS for what in ("memory", "p99, refused")),
    ]
    rows = [
        [name, *chain.from_iterable(_cells(found[setting]) for setting in SETTINGS)]
        for name, found in document["rows"].items()
    ]
    return "\n\n".join([tables.table(head, rows), tables.prose(in_words(document)), tables.origin(document)]) + "\n"


def _cells(found: Document) -> tuple[str, str]:
    too_large = " (422)" if set(found["statuses"]) == {"422"} else ""
    p99 = "-" if found["p99"] is None else tables.duration(found["p99"])
    sent = found["answered"] + found["refused"] + found["amiss"]
    return f"{found['bytes'] / 1e6:.0f} MB{too_large}", f"{p99}, {found['refused']:,} of {sent:,}"


def in_words(document: Document) -> str:
    """What the figures come to."""
    rows = document["rows"].values()
    most = max(found["image"]["bytes"] for found in rows)
    each = [found[setting] for found in rows for setting in SETTINGS]
    slowest = max(found["p99"] for found in each if found["p99"] is not None)
    starved = sum(found["p99"] is None for found in each)
    amiss, seen = sum(found["amiss"] for found in each), document["control"] / 2**20
    return (
        f"Attacks of {document['seconds']:g} s each on {WORKERS} workers, with the limits of the image and the default "
        f"ones, while {CLIENTS} clients send the reference example: the most that master and workers hold "
        f"together (PSS, looked at every {1e3 * footprint.PAUSE:.0f} ms), within what 99 % of the checks that have a "
        "place are answered, and how many have none at once (503). (422): that is more than is taken. With the limits "
        f"of the image {most / 1e6:.0f} MB at most (within 1 GiB: {tables.met(most <= WANTED_BYTES)}); p99 "
        f"{tables.duration(slowest)} at most (below 2 s: {tables.met(slowest < WANTED_SECONDS and not starved)}); at "
        f"{starved} of {len(each)} attacks no small check had a place; of these checks {amiss} went amiss. The "
        f"negative control, {PLANTED / 2**20:.0f} MiB that a process of its own takes "
        f"meanwhile, is seen as {seen:.0f} MiB ({tables.met(sees(document['control']))})."
    )


def main() -> None:
    """Print the table and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pressure", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each attack under each setting")
    found = measured(parser.parse_args().seconds)
    result = {**found, "machine": machine(), "versions": versions(("gunicorn", "numpy", "torch"))}
    print(markdown(result))
    kept.keep("pressure", result, markdown(result), markdown(result))


if __name__ == "__main__":
    main()
