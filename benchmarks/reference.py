"""The reference request, warm, beside torch.autograd.gradcheck on the same model: `make bench`.

Both sides check the gradient with respect to w1 and w2, taking turns, so that a noisy machine disturbs both alike.
The request is measured twice: as a call of `service.checks.graph.check.check`, and over HTTP on a
real gunicorn on loopback.
"""

import http.client
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks import saved_results, tables
from benchmarks.local_server import ROOT, run_server
from benchmarks.machine_info import describe_machine, list_versions
from service.checks.graph.check import check

EXAMPLE_REQUEST = (ROOT / "examples" / "reference.json").read_bytes()
ROUNDS = 300


def make_gradcheck_call(body: dict[str, Any]) -> Callable[[], object]:
    """The peer: the model written as one would in PyTorch, in float64, gradcheck with its defaults."""
    x, y = (torch.tensor(body["tensors"][name], dtype=torch.float64) for name in ("x", "y"))
    w1, w2 = (torch.tensor(body["weights"][name], dtype=torch.float64, requires_grad=True) for name in ("w1", "w2"))

    def loss(w1: torch.Tensor, w2: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(torch.nn.functional.conv2d(x[None, None], w1[None, None]).flatten())
        return 0.5 * (torch.sigmoid(hidden * w2) - y).square().sum()

    return lambda: torch.autograd.gradcheck(loss, (w1, w2))


def make_post_call(port: int) -> Callable[[], object]:
    """One request over a connection that is kept."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def post() -> None:
        connection.request("POST", "/v1/check", EXAMPLE_REQUEST, {"Content-Type": "application/json"})
        assert b'"outcome":"pass"' in connection.getresponse().read()

    return post


def measure_medians(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(ROUNDS + 20):
        for name, call in contenders.items():
            started = time.perf_counter()
            call()
            if turn >= 20:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def write_markdown(result: Mapping[str, Any]) -> str:
    """The table that a document quotes."""
    rows = [
        [name, tables.format_duration(milliseconds / 1e3), str(result["ratio_to_gradcheck"][name])]
        for name, milliseconds in result["milliseconds"].items()
    ]
    return f"{tables.write_table(['', 'time', 'gradcheck = 1'], rows)}\n\n{tables.describe_origin(result)}\n"


def main() -> None:
    """Print the table and keep it."""
    torch.set_num_threads(1)
    body = json.loads(EXAMPLE_REQUEST)
    with run_server() as serving:
        medians = measure_medians(
            {
                "torch.autograd.gradcheck": make_gradcheck_call(body),
                "check, called": lambda: check(body),
                "check, over HTTP": make_post_call(serving.port),
            }
        )
    base = medians["torch.autograd.gradcheck"]
    result = {
        "milliseconds": {name: round(seconds * 1e3, 3) for name, seconds in medians.items()},
        "ratio_to_gradcheck": {name: round(seconds / base, 2) for name, seconds in medians.items()},
        "rounds": ROUNDS,
        "machine": describe_machine(),
        "versions": list_versions(("numpy", "torch")),
    }
    print(write_markdown(result))
    saved_results.save_results("reference", result, write_markdown(result), write_markdown(result))


if __name__ == "__main__":
    main()
