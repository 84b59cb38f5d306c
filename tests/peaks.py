"""Peak memory of requests beside what was estimated, in a process of its own: `python -m tests.peaks ELEMENTS`.

Each line is a JSON array: the name, the bytes estimated, and those by which the process grew at most.
"""

import ctypes
import gc
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from schemas.writing import written
from service.check import check
from service.checking import language
from service.checking.asked import asked
from service.checking.estimate import estimated
from service.checking.question import Limits
from tests.large_models import deep, drawn, model, models

PLENTY = Limits(bytes=2**40, work=10**15, elements=2**24, seconds=600.0, answer_bytes=2**40)
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    return 1024 * int(kibibytes)


def grown(work: Callable[[], object]) -> int:
    """Bytes by which the process grew at most, from when all that is free had been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR.write_text("5")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def checked(request: dict[str, Any]) -> bytes:
    return written(check(request, PLENTY, reserve=lambda _: None))


def bytes_of(request: dict[str, Any]) -> int:
    _, problem = asked(request, PLENTY, language.parsed)
    return estimated(problem, PLENTY)[1].bytes


def variants(n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One model in all that a request may ask for."""
    base = model("tanh", (n // 8, 8))
    right = [[0.5] * 8] * (n // 8)
    everything = ["gradients", "allowances", "intermediates"]
    for name, fields in {
        "sample": {"finite_difference": {"sample": 100}},
        "directions": {"finite_difference": {"projections": 20}},
        "all of it": {"include": everything},
        "all of it in base64": {"include": everything, "encoding": "b64"},
        "nothing of it": {"include": []},
        "float32": {"dtype": "float32"},
        "bfloat16": {"dtype": "bfloat16"},
        "a candidate": {"candidate": {"t0": right}},
        "not finite": {"candidate": {"t0": [["NaN"] * 8] * (n // 8)}},
        "of nodes": {"with_respect_to": ["y", "t0"]},
    }.items():
        yield f"tanh, {name}", base | fields
    yield "deep", deep(n, 20)
    yield "deep, along directions", deep(n, 40, finite_difference={"projections": 3})
    yield "deep, wrong", deep(n, 20, candidate={"w3": deep(n, 20)["weights"]["w3"]})
    yield "deep, all wrong", deep(n, 10, candidate=deep(n, 10)["weights"])
    yield "deep, float32", deep(n, 20, dtype="float32")
    yield "many directions", model("tanh", (4,), finite_difference={"projections": n // 4})
    for seed in range(8):
        yield f"drawn, {seed}", drawn(n, seed)
    kinks = {f"w{number}": [0.0] * 500 for number in range(n // 500)}
    nodes = [{"name": "c", "op": "cat", "inputs": list(kinks)}, {"name": "a", "op": "abs", "inputs": ["c"]}]
    nodes.append({"name": "loss", "op": "sum", "inputs": ["a"]})
    yield "kinks", {"tensors": {}, "weights": kinks, "model": {"nodes": nodes}}
    kernel = int(n**0.5)
    whole = {"attributes": {"padding": kernel // 2}, "finite_difference": {"projections": 1}}
    yield "conv2d, as large as the picture", model("conv2d", (1, 1, 12, 12), (1, 1, kernel, kernel), **whole)


def main(n: int, only: str = "") -> None:
    checked(model("tanh", (16,)))
    checked(model("conv2d", (1, 1, 5, 5), (1, 1, 2, 2)))
    for name, request in [*models(n), *variants(n)]:
        if any(each in name for each in only.split("|")):
            found = grown(lambda request=request: checked(request))
            print(json.dumps([name, bytes_of(request), found]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
