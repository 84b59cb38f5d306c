"""Record the reports of presets, examples and random graphs, and compare two records.

A refactoring changes no number. Write a record before it and one after it, and compare them:

    python -m benchmarks.report_snapshot write before.jsonl
    python -m benchmarks.report_snapshot write after.jsonl
    python -m benchmarks.report_snapshot compare before.jsonl after.jsonl

Requests go over the wire to the application in this process: renamed modules do not matter. Times and the wording of
sentences are left out of the comparison. Numbers are compared digit by digit.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.one_thread  # noqa: F401  # before NumPy and torch count the cores
from service.app import create_app

ROOT = Path(__file__).parent.parent
GRAPHS = 300
TIME_FIELDS = ("seconds", "stages")
UNARY_OPS = (
    "tanh",
    "sigmoid",
    "sin",
    "cos",
    "erf",
    "silu",
    "gelu",
    "softplus",
    "elu",
    "leaky_relu",
    "relu",
    "neg",
    "abs",
    "exp",
)
BINARY_OPS = ("add", "sub", "mul", "maximum", "minimum")
SHAPE_OPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}),
    ("cumsum", {"dim": 1}),
    ("flip", {"dims": [0]}),
    ("layer_norm", {"normalized_shape": [4], "eps": 0.1}),
)
DTYPES = ("float64", "float64", "float32", "bfloat16", "float16")
Body = dict[str, Any]
Generator = np.random.Generator


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("write").add_argument("file", type=Path)
    compare = commands.add_parser("compare")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "write":
        return write_record(arguments.file)
    return compare_records(arguments.before, arguments.after)


def write_record(file: Path, graphs: int = GRAPHS) -> int:
    """Write the answer of every request, one a line; return the exit status."""
    client = create_app().test_client()
    with file.open("w") as lines:
        for name, answer in post_all(client, graphs):
            print(json.dumps({"name": name, "answer": answer}), file=lines)
    return 0


def compare_records(before: Path, after: Path) -> int:
    """Print each difference between two records; return the exit status."""
    first, second = read_record(before), read_record(after)
    differences = [
        f"{name}{where}"
        for name in sorted(first | second)
        for where in list_differences(first.get(name), second.get(name))
    ]
    for line in differences[:100]:
        print(line)
    print(f"{len(first)} reports before, {len(second)} after, {len(differences)} differences")
    return bool(differences) or not first


def read_record(file: Path) -> dict[str, Any]:
    return {line["name"]: line["answer"] for line in map(json.loads, file.read_text().splitlines())}


def list_differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yield the JSON Pointer of every place at which two answers differ, times and sentences apart."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [key for key in before | after if key not in TIME_FIELDS]:
            yield from list_differences(before.get(key), after.get(key), f"{where}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from list_differences(*pair, f"{where}/{index}")
    elif before != after and not (is_sentence(before) and is_sentence(after)):
        yield f"{where}: {before!r:.80} -> {after!r:.80}"


def is_sentence(value: Any) -> bool:
    return isinstance(value, str) and " " in value


def post_all(client: Any, graphs: int) -> Iterator[tuple[str, Any]]:
    """Yield a name and the answer of every request of the record."""
    for preset in client.get("/v1/models").json["models"]:
        yield f"preset {preset['name']}", _post(client, "/v1/check", preset["request"])
    for file in sorted((ROOT / "examples").glob("*.json")):
        yield f"example {file.stem}", _post(client, "/v1/check", json.loads(file.read_text()))
    for seed in range(graphs):
        generator = np.random.default_rng(seed)
        body = make_random_graph(generator)
        answer = _post(client, "/v1/check", body)
        yield f"graph {seed}", answer
        yield (
            f"graph {seed} with a candidate",
            _post(client, "/v1/check", body | {"candidate": _change_gradient(answer, generator)}),
        )
        if seed % 10 == 0:
            yield from _judge_black_box(client, seed)
    for path in ("/v1/ops", "/openapi.json"):
        yield path, client.get(path).json


def _post(client: Any, path: str, body: Body) -> Any:
    return client.post(path, data=json.dumps(body), content_type="application/json").json


def make_random_graph(generator: Generator) -> Body:
    """Make a request of 5 to 16 nodes over tensors of one shape, in a random dtype and with a random method."""
    known, nodes = ["x", "u"], list[Body]()
    for number in range(int(generator.integers(4, 15))):
        nodes.append(_make_node(f"n{number}", known, generator))
        known.append(nodes[-1]["name"])
    nodes.append({"name": "joined", "op": "linear", "inputs": [nodes[-1]["name"], "w"]})
    read = {source for node in nodes for source in node["inputs"] if isinstance(source, str)}
    for number, unread in enumerate(name for name in known if name not in read):
        nodes.append({"name": f"j{number}", "op": "add", "inputs": [nodes[-1]["name"], unread]})
    nodes.append({"name": "loss", "op": "mse_loss", "inputs": [nodes[-1]["name"], "goal"]})
    draw = lambda *shape: generator.normal(size=shape).round(3).tolist()  # noqa: E731
    return {
        "tensors": {"x": draw(3, 4), "goal": draw(3, 4)},
        "weights": {"u": draw(3, 4), "w": draw(4, 4)},
        "model": {"nodes": nodes},
        "dtype": str(generator.choice(DTYPES)),
        "finite_difference": _choose_method(generator),
        "seed": int(generator.integers(100)),
    }


def _make_node(name: str, known: list[str], generator: Generator) -> Body:
    def choose() -> str:
        return known[-1] if generator.random() < 0.5 else str(generator.choice(known))

    kind = generator.choice(["unary", "binary", "shaped"], p=[0.5, 0.3, 0.2])
    if kind == "unary":
        return {"name": name, "op": str(generator.choice(UNARY_OPS)), "inputs": [choose()]}
    if kind == "binary":
        return {"name": name, "op": str(generator.choice(BINARY_OPS)), "inputs": [choose(), choose()]}
    op, attributes = SHAPE_OPS[int(generator.integers(len(SHAPE_OPS)))]
    return {"name": name, "op": op, "inputs": [choose()]} | attributes


def _choose_method(generator: Generator) -> Body:
    methods = ({}, {}, {"method": "central"}, {"method": "forward", "step": 1e-6}, {"sample": 5}, {"projections": 3})
    return methods[int(generator.integers(len(methods)))]


def _change_gradient(answer: Any, generator: Generator) -> Body:
    """Return the analytic gradients, half of them with a planted bug; none where the graph was refused."""
    gradients = {
        name: np.asarray(routes["analytic"], dtype=float) for name, routes in answer.get("gradients", {}).items()
    }
    changes = (
        lambda g: g, lambda g: g, lambda g: g, lambda g: -g, lambda g: 2 * g, lambda g: g + 1e-3,
        lambda g: np.where(np.arange(g.size).reshape(g.shape) == 1, 0, g), lambda g: np.roll(g, 1, 0),
    )  # fmt: skip
    changed = {name: changes[int(generator.integers(len(changes)))](gradient) for name, gradient in gradients.items()}
    return {name: gradient.tolist() for name, gradient in changed.items() if np.isfinite(gradient).all()}


def _judge_black_box(client: Any, seed: int) -> Iterator[tuple[str, Any]]:
    generator = np.random.default_rng(seed)
    point, weights = generator.normal(size=6), generator.normal(size=6)
    kind = {"kind": str(generator.choice(["coordinates", "random"]))}
    planned = _post(client, "/v1/plan", {"point": {"w": point.tolist()}, "directions": kind, "seed": seed})
    yield f"plan {seed}", planned
    losses = [float(np.sum(weights * np.sin(step["w"]))) for step in planned["points"]]
    gradient = weights * np.cos(point) * (1 if seed % 20 else 1 + 1e-3 * (np.arange(6) == 2))
    body = {"plan": planned["plan"], "losses": losses, "candidate": {"w": gradient.tolist()}}
    yield f"judge {seed}", _post(client, "/v1/judge", body)


if __name__ == "__main__":
    sys.exit(main())
