"""Peak memory of requests beside what was estimated, in a process of its own: `python -m tests.memory_peaks ELEMENTS`.

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

from schemas.json_writer import write_json
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.parse import parse_problem
from tests.large_models import build_deep_model, build_model, build_models, draw_model

AMPLE_LIMITS = Limits(bytes=2**40, work=10**15, elements=2**24, seconds=600.0, answer_bytes=2**40)
STATUS_FILE, CLEAR_FILE = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def read_resident_bytes(field: str) -> int:
    (kibibytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", STATUS_FILE.read_text(), re.MULTILINE)
    return 1024 * int(kibibytes)


def measure_growth(work: Callable[[], object]) -> int:
    """Bytes by which the process grew at most, from when all that is free had been given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    CLEAR_FILE.write_text("5")
    before = read_resident_bytes("VmRSS")
    work()
    return read_resident_bytes("VmHWM") - before


def run_check(request: dict[str, Any]) -> bytes:
    return write_json(check(request, AMPLE_LIMITS, reserve_answer_bytes=lambda _: None))


def estimate_request_bytes(request: dict[str, Any]) -> int:
    _, problem = parse_problem(request, AMPLE_LIMITS, model_language.parse_check_request)
    return estimate_check(problem, AMPLE_LIMITS)[1].bytes


def make_variants(n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """One model in all that a request may ask for."""
    base = build_model("tanh", (n // 8, 8))
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
    yield "deep", build_deep_model(n, 20)
    yield "deep, along directions", build_deep_model(n, 40, finite_difference={"projections": 3})
    yield "deep, wrong", build_deep_model(n, 20, candidate={"w3": build_deep_model(n, 20)["weights"]["w3"]})
    yield "deep, all wrong", build_deep_model(n, 10, candidate=build_deep_model(n, 10)["weights"])
    yield "deep, float32", build_deep_model(n, 20, dtype="float32")
    yield "many directions", build_model("tanh", (4,), finite_difference={"projections": n // 4})
    for seed in range(8):
        yield f"drawn, {seed}", draw_model(n, seed)
    kinks = {f"w{number}": [0.0] * 500 for number in range(n // 500)}
    nodes = [{"name": "c", "op": "cat", "inputs": list(kinks)}, {"name": "a", "op": "abs", "inputs": ["c"]}]
    nodes.append({"name": "loss", "op": "sum", "inputs": ["a"]})
    yield "kinks", {"tensors": {}, "weights": kinks, "model": {"nodes": nodes}}
    kernel = int(n**0.5)
    whole = {"attributes": {"padding": kernel // 2}, "finite_difference": {"projections": 1}}
    yield "conv2d, as large as the picture", build_model("conv2d", (1, 1, 12, 12), (1, 1, kernel, kernel), **whole)


def main(n: int, only: str = "") -> None:
    run_check(build_model("tanh", (16,)))
    run_check(build_model("conv2d", (1, 1, 5, 5), (1, 1, 2, 2)))
    for name, request in [*build_models(n), *make_variants(n)]:
        if any(part in name for part in only.split("|")):
            growth = measure_growth(lambda request=request: run_check(request))
            print(json.dumps([name, estimate_request_bytes(request), growth]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
