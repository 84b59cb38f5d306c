"""Edits of formulas and typical mistakes, planted into ops and small graphs with random numbers, and what is named."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from schemas.datatype import Array
from service.numerics.diagnosis.batched_backward import iterate_overridden_gradients
from service.numerics.diagnosis.diagnose import UNKNOWN_BUG, iterate_backward_overrides
from service.numerics.diagnosis.inject import is_visible
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.backward_form import GENERATED_BUGS
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import OpExample
from service.numerics.verdict.outcome import Outcome
from tests.solved_problems import SolvedProblem

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

FORMULA_OPS = sorted(name for name, op in OP_REGISTRY.items() if issubclass(op, FormulaBugs))
WITHOUT_PLANTS = {"conv1d", "conv2d", "conv_transpose2d"}
"""Ops whose first examples show no edit under a name of an edit."""
PLANTS_PER_OP = 8
"""Edits that are planted into each op."""


class Plant(NamedTuple):
    """A wrong gradient with the bug that made it."""

    op: str
    body: Mapping[str, Any]
    candidate: Mapping[str, Array]
    bug_name: str
    clause: str


def draw_leaf(case: OpExample, name: str, kinds: tuple[str, ...], shape: tuple[int, ...], seed: int) -> Any:
    generator = np.random.default_rng([seed, *map(ord, name)])
    if name in case.index_limits:
        return generator.integers(0, case.index_limits[name], shape)
    if kinds == ("bool",) or name in case.bool_slots:
        return generator.random(shape) < 0.6
    return generator.uniform(case.low, case.high, shape)


def build_body(name: str, case: OpExample, seed: int = 0) -> dict[str, Any]:
    """A request: the op at random inputs, behind a product for an op of one tensor, and weighted at random."""
    op = OP_REGISTRY[name](**case.attributes)
    leaves = {
        slot.name: draw_leaf(case, slot.name, slot.kinds, shape, seed)
        for slot, shape in zip(op.slots, case.input_shapes, strict=True)
        if shape is not None
    }
    floats = {key: leaf.tolist() for key, leaf in leaves.items() if leaf.dtype.kind == "f"}
    others = {key: encode_leaf(leaf) for key, leaf in leaves.items() if leaf.dtype.kind != "f"}
    output = op.infer_output_shape(*case.input_shapes)
    g = np.random.default_rng([seed, 1]).normal(size=output)
    inputs: dict[str, Any] = {key: key for key in leaves}
    nodes: list[dict[str, Any]] = []
    if [*floats] == ["input"] and leaves["input"].shape and case.low <= -1:
        width = leaves["input"].shape[-1]
        floats["v"] = np.random.default_rng([seed, 2]).normal(size=(width, width)).tolist()
        nodes.append({"name": "h", "op": "matmul", "inputs": ["input", "v"]})
        inputs["input"] = "h"
    nodes += [
        {"name": "y", "op": name, "inputs": inputs, **case.attributes},
        {"name": "weighted", "op": "mul", "inputs": ["y", "g"]},
        {"name": "loss", "op": "sum", "inputs": ["weighted"]},
    ]
    return {"tensors": {**others, "g": g.tolist()}, "weights": floats, "model": {"nodes": nodes}}


def encode_leaf(leaf: Any) -> Any:
    if leaf.dtype.kind == "b":
        return {"datatype": "BOOL", "shape": list(leaf.shape), "data": leaf.ravel().tolist()}
    return leaf.tolist()


@lru_cache
def solve(name: str, number: int) -> SolvedProblem:
    return SolvedProblem(build_body(name, OP_REGISTRY[name].examples[number], number))


def plant_edits(name: str) -> Iterator[tuple[int, Plant]]:
    """Random edits of an op's formulas at its examples, in all gradients that they change."""
    generator = np.random.default_rng([*map(ord, name)])
    for number, case in enumerate(OP_REGISTRY[name].examples[:2]):
        model = solve(name, number)
        context = model.build_context()
        overrides = [
            override
            for override in iterate_backward_overrides(context, model.problem.names)
            if (override.op_bug is None or override.op_bug.is_generated)
            and f"y ({name})" in override.describe_bug()
            and override.bug_name in GENERATED_BUGS
        ]
        order = generator.permutation(len(overrides))
        made = 0
        for index in order:
            if made == PLANTS_PER_OP // 2:
                break
            override = overrides[index]
            for _, gradients in iterate_overridden_gradients(
                context.graph, context.values, [override], model.problem.names
            ):
                candidate = {
                    key: gradient[0]
                    for key, gradient in gradients.items()
                    if np.isfinite(gradient).all() and is_visible(gradient[0], context.get_right_gradient(key))
                }
                # A gradient of one or two numbers is matched by chance, and zeros prove little.
                if any(
                    array.size > 2 and array[array != context.get_right_gradient(key)].any()
                    for key, array in candidate.items()
                ):
                    made += 1
                    body = build_body(name, case, number)
                    yield number, Plant(name, body, candidate, override.bug_name, override.describe_bug())


Formula = Callable[..., dict[str, Array]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


MISTAKES: dict[str, dict[str, Formula]] = {
    "silu": {
        "plus for minus": lambda g, x: {"input": g * sigmoid(x) * (1 + x * (1 + sigmoid(x)))},
        "x forgotten": lambda g, x: {"input": g * sigmoid(x) * (1 + (1 - sigmoid(x)))},
        "s forgotten": lambda g, x: {"input": g * (1 + x * (1 - sigmoid(x)))},
        "1 - s forgotten": lambda g, x: {"input": g * sigmoid(x) * (1 + x)},
        "1 forgotten": lambda g, x: {"input": g * sigmoid(x) * x * (1 - sigmoid(x))},
    },
    "tanh": {
        "1 + t^2": lambda g, x: {"input": g * (1 + np.tanh(x) ** 2)},
        "1 - t": lambda g, x: {"input": g * (1 - np.tanh(x))},
        "t (1 - t)": lambda g, x: {"input": g * np.tanh(x) * (1 - np.tanh(x))},
        "1 - 2 t^2": lambda g, x: {"input": g * (1 - 2 * np.tanh(x) ** 2)},
        "1 - x^2": lambda g, x: {"input": g * (1 - x**2)},
    },
    "sigmoid": {
        "1 - s^2": lambda g, x: {"input": g * (1 - sigmoid(x) ** 2)},
        "s (1 + s)": lambda g, x: {"input": g * sigmoid(x) * (1 + sigmoid(x))},
        "s^2 (1 - s)": lambda g, x: {"input": g * sigmoid(x) ** 2 * (1 - sigmoid(x))},
        "s": lambda g, x: {"input": g * sigmoid(x)},
        "1 - s": lambda g, x: {"input": g * (1 - sigmoid(x))},
    },
    "mul": {
        "own operand": lambda g, a, b: {"input": g * a},
        "other not multiplied": lambda g, a, b: {"input": g},
        "squared": lambda g, a, b: {"other": g * a * a},
        "divided": lambda g, a, b: {"other": g / a},
        "product": lambda g, a, b: {"input": g * a * b},
    },
    "div": {
        "one b": lambda g, a, b: {"other": -g * a / b},
        "sign": lambda g, a, b: {"other": g * a / b**2},
        "a forgotten": lambda g, a, b: {"other": -g / b**2},
        "times b": lambda g, a, b: {"input": g * b},
        "b twice": lambda g, a, b: {"input": g / b**2},
    },
    "softmax": {
        "sum of g": lambda g, x: {"input": soft(x) * (g - g.sum(1, keepdims=True))},
        "plus": lambda g, x: {"input": soft(x) * (g + (g * soft(x)).sum(1, keepdims=True))},
        "p forgotten": lambda g, x: {"input": g - (g * soft(x)).sum(1, keepdims=True)},
        "mean": lambda g, x: {"input": soft(x) * (g - (g * soft(x)).mean(1, keepdims=True))},
        "twice": lambda g, x: {"input": soft(x) * (g - 2 * (g * soft(x)).sum(1, keepdims=True))},
    },
    "layer_norm": {
        "mean of h forgotten": lambda g, x, w, b: {"input": layer_norm(g, x, w, drop=1)},
        "variance path forgotten": lambda g, x, w, b: {"input": layer_norm(g, x, w, drop=2)},
        "sum for mean": lambda g, x, w, b: {"input": layer_norm(g, x, w, scale=4.0)},
        "weight forgotten": lambda g, x, w, b: {"input": layer_norm(g, x, np.ones(4))},
        "r squared": lambda g, x, w, b: {"input": layer_norm(g, x, w) / np.sqrt(x.var(1, keepdims=True) + 1e-5)},
    },
    "add_rms_norm": {
        "offset forgotten": lambda g, x, y, w: dict.fromkeys(("input", "residual"), rms(g, x + y, w)),
        "residual forgotten in z": lambda g, x, y, w: dict.fromkeys(
            ("input", "residual"), rms(g, x + y, w + 1, z_of=x)
        ),
        "path of the mean": lambda g, x, y, w: dict.fromkeys(("input", "residual"), rms(g, x + y, w + 1, path=0.0)),
        "sign of the path": lambda g, x, y, w: dict.fromkeys(("input", "residual"), rms(g, x + y, w + 1, path=-1.0)),
        "sum for mean": lambda g, x, y, w: dict.fromkeys(("input", "residual"), rms(g, x + y, w + 1, path=4.0)),
    },
    "rotary_embedding": {
        "forwards": lambda g, x, c, s: {"input": rotate(g, c, s)},
        "cosine for sine": lambda g, x, c, s: {"input": rotate(g, c, -c)},
        "cosine forgotten": lambda g, x, c, s: {"input": rotate(g, np.ones_like(c), -s)},
        "sine part forgotten": lambda g, x, c, s: {"input": rotate(g, c, 0 * s)},
        "sine for cosine": lambda g, x, c, s: {"input": rotate(g, s, -s)},
    },
}
"""Mistakes that are written by hand, at the first example of each op."""


def soft(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def layer_norm(g: Array, x: Array, w: Array, drop: int = 0, scale: float = 1.0) -> Array:
    r = 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    z, h = (x - x.mean(1, keepdims=True)) * r, g * w
    first = 0 if drop == 1 else scale * h.mean(1, keepdims=True)
    second = 0 if drop == 2 else scale * z * (h * z).mean(1, keepdims=True)
    return r * (h - first - second)


def rms(g: Array, h: Array, w: Array, z_of: Array | None = None, path: float = 1.0) -> Array:
    r = 1 / np.sqrt((h * h).mean(1, keepdims=True) + 1e-6)
    z, q = (h if z_of is None else z_of) * r, g * w
    return r * (q - path * z * (q * z).mean(1, keepdims=True))


def rotate(x: Array, c: Array, s: Array) -> Array:
    first, second = x[..., :2], x[..., 2:]
    return np.concatenate([first * c - second * s, second * c + first * s], -1)


def plant_mistakes(name: str) -> Iterator[tuple[int, Plant]]:
    """Mistakes in NumPy, brought back through the product in front of the op."""
    case = OP_REGISTRY[name].examples[0]
    model = solve(name, 0)
    inputs = [
        model.get_value("h" if slot.name == "input" and "v" in model.problem.names else slot.name)
        for slot, shape in zip(OP_REGISTRY[name].slots, case.input_shapes, strict=True)
        if shape is not None
    ]
    for mistake, differentiate in MISTAKES[name].items():
        candidate = differentiate(np.array(build_body(name, case)["tensors"]["g"]), *inputs)
        if "v" in model.problem.names:
            x, v = (np.array(build_body(name, case)["weights"][key]) for key in ("input", "v"))
            by_h = candidate["input"]
            candidate = {"input": by_h @ v.T, "v": x.T @ by_h}
        yield 0, Plant(name, build_body(name, case), candidate, "", mistake)


def iterate_plants(name: str) -> Iterator[tuple[int, Plant]]:
    yield from plant_edits(name)
    yield from plant_mistakes(name) if name in MISTAKES else ()


def judge_plant(model: SolvedProblem, plant: Plant) -> str:
    """`first` and `listed` for the planted bug, `another` for one with the same numbers, `unknown`, or `pass`."""
    verdicts, explanations = model.judge_candidates(plant.candidate)
    failed = [name for name, verdict in verdicts.items() if verdict.outcome == Outcome.FAIL]
    if not failed:
        return "pass"
    found = explanations[max(failed, key=lambda name: plant.candidate[name].size)]
    if found[0].bug_name == UNKNOWN_BUG:
        return "unknown"
    if not plant.bug_name:
        return "first"
    if found[0].bug_name == plant.bug_name:
        return "first"
    return "listed" if plant.bug_name in {explanation.bug_name for explanation in found} else "another"


@pytest.mark.parametrize("name", [name for name in FORMULA_OPS if name not in WITHOUT_PLANTS])
def test_planted_bugs_are_named(name: str) -> None:
    with np.errstate(all="ignore"):
        plants = [*iterate_plants(name)]
    counts = Counter(judge_plant(solve(name, number), plant) for number, plant in plants)
    assert sum(counts.values())
    assert counts["unknown"] + counts["pass"] == 0


@pytest.mark.parametrize("name", FORMULA_OPS)
def test_right_gradients_are_not_named(name: str) -> None:
    model = solve(name, 0)
    right = {key: model.get_gradient(key) for key in model.problem.names}
    verdicts, explanations = model.judge_candidates(right)
    assert {verdict.outcome for verdict in verdicts.values()} == {Outcome.PASS}
    assert explanations == {}
