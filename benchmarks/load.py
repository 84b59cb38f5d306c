"""Load on a real gunicorn with two workers, and what it does to its memory: `make load`.

1 to 64 clients send the reference example, each over a connection that it keeps, and each as soon as it has the answer
to the last; who is refused comes again after the time that the refusal says. Every answer is compared with the first.
Then 4 clients send 20,000 requests, before and after which the memory of the workers is looked at.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import kept, tables
from benchmarks.asking import Expected, asked_well
from benchmarks.machine import machine, versions
from benchmarks.serving import ROOT, Serving, server

BODY = (ROOT / "examples" / "reference.json").read_bytes()
_LINES = (
    "POST /v1/check HTTP/1.1",
    "Host: localhost",
    "Content-Type: application/json",
    f"Content-Length: {len(BODY)}",
    "\r\n",
)
REQUEST = "\r\n".join(_LINES).encode() + BODY

WORKERS = 2
CLIENTS = (1, 4, 16, 64)
SECONDS = 30
REQUESTS = 20_000
WARM_UP = 2_000
AT_ONCE = 4
"""Clients of those 20,000."""
WANTED_GROWTH = 0.05

Document = Mapping[str, Any]


def row(serving: Serving, expected: Expected, clients: int, seconds: float) -> dict[str, Any]:
    """Figures of so many clients for so long."""
    started = time.perf_counter()
    tally = asked_well(serving.port, REQUEST, expected, clients, lambda: time.perf_counter() < started + seconds)
    return {
        "clients": clients,
        "answered": len(tally.seconds),
        "throughput": round(len(tally.seconds) / (time.perf_counter() - started), 1),
        "p50": round(tally.percentile(50), 4),
        "p99": round(tally.percentile(99), 4),
        "refused": tally.refused,
        "wrong": tally.wrong,
        "failed": tally.failed,
        "dropped": tally.dropped,
    }


def memory(serving: Serving, expected: Expected, requests: int, warm_up: int) -> dict[str, Any]:
    """Resident bytes of the workers before and after so many requests, when they were warm before."""
    asked_well(serving.port, REQUEST, expected, AT_ONCE, times(warm_up))
    before = serving.resident()
    asked_well(serving.port, REQUEST, expected, AT_ONCE, times(requests))
    after = serving.resident()
    if before.keys() != after.keys():
        raise SystemExit("a worker ended")
    return {"requests": requests, "before": list(before.values()), "after": list(after.values())}


def times(count: int) -> Callable[[], bool]:
    """Go on so many times, all clients together."""
    left = itertools.count(count, -1)
    return lambda: next(left) > 0


def growth(memory: Document) -> float:
    """Of the worker that grew most, as a part of what it had."""
    return max((after - before) / before for before, after in zip(memory["before"], memory["after"], strict=True))


def markdown(document: Document) -> str:
    """The table that the README quotes."""
    head = ["clients", "answers a second", "p50", "p99", "refused (503)", "wrong, failed, dropped"]
    rows = [
        [
            str(each["clients"]),
            tables.shown(each["throughput"]),
            tables.duration(each["p50"]),
            tables.duration(each["p99"]),
            f"{each['refused']:,}",
            f"{each['wrong'] + each['failed'] + each['dropped']:,}",
        ]
        for each in document["rows"]
    ]
    parts = [tables.table(head, rows), tables.prose(in_words(document)), tables.origin(document)]
    return "\n\n".join(parts) + "\n"


def in_words(document: Document) -> str:
    """How long it took, and the memory."""
    memory = document["memory"]
    grown = growth(memory)
    before, after = (f"{sum(memory[name]) / 1e6:.0f} MB" for name in ("before", "after"))
    short = document["seconds"] < SECONDS or memory["requests"] < REQUESTS
    return (
        f"{'A short run, of' if short else 'Of'} {document['seconds']:g} s each, {document['workers']} workers; "
        "clients and service share the machine. "
        f"The workers together hold {before} when they are warm and {after} after {memory['requests']:,} more "
        f"requests; the one that grew most by {100 * grown:.1f} % (within 5 %: {tables.met(grown <= WANTED_GROWTH)})."
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each number of clients")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="between the looks at memory")
    return parser.parse_args()


def main() -> None:
    """Print the table and keep it."""
    given, expected = arguments(), Expected()
    with server(WORKERS) as serving:
        # Both workers, so that none is measured while it warms up.
        asked_well(serving.port, REQUEST, expected, AT_ONCE, times(100))
        rows = [row(serving, expected, clients, given.seconds) for clients in CLIENTS]
        held = memory(serving, expected, given.requests, min(WARM_UP, given.requests))
    result = {
        "seconds": given.seconds,
        "workers": WORKERS,
        "rows": rows,
        "memory": held,
        "machine": machine(),
        "versions": versions(("gunicorn", "numpy", "torch")),
    }
    print(markdown(result))
    kept.keep("load", result, markdown(result), markdown(result))


if __name__ == "__main__":
    main()
