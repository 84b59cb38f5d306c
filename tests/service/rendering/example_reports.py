"""Reports to be written: real ones, and such as hold whatever a request may have put there."""

import itertools
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from schemas.model_text import write_name, write_value
from service.checks.graph.check import check

EXAMPLE = json.loads((Path(__file__).parents[3] / "examples" / "reference.json").read_text())
WRONG_GRADIENT = [[-0.13425572029504, -0.18325792430504], [-0.28126233232502, 0.33026453633502]]
KINKED_REQUEST = {
    "tensors": {"x": [0, -1, 2.5, 0, 0, 0, 0]},
    "weights": {"w": [0, 1, 2, 0, 0, 0, 0]},
    "model": {
        "nodes": [
            {"name": "m", "op": "add", "inputs": ["x", "w"]},
            {"name": "r", "op": "relu", "inputs": ["m"]},
            {"name": "loss", "op": "sum", "inputs": ["r"]},
        ]
    },
}
LARGE_REQUEST = {
    "tensors": {"x": np.linspace(-1, 1, 40).reshape(8, 5).tolist(), "y": [[0.1] * 10] * 8},
    "weights": {"w": np.linspace(-1, 1, 50).reshape(10, 5).tolist()},
    "model": {
        "nodes": [
            {"name": "z", "op": "linear", "inputs": {"input": "x", "weight": "w"}},
            {"name": "loss", "op": "mse_loss", "inputs": ["z", "y"]},
        ]
    },
}
REQUESTS: dict[str, dict[str, Any]] = {
    "pass": EXAMPLE,
    "fail": EXAMPLE | {"candidate": {"w1": WRONG_GRADIENT}},
    "nothing included": EXAMPLE | {"include": []},
    "intermediates": EXAMPLE | {"include": ["gradients", "intermediates"]},
    "another shape": EXAMPLE | {"candidate": {"w1": [1, 2, 3]}},
    "not finite": EXAMPLE | {"candidate": {"w2": ["NaN", "Infinity", "-Infinity", 1]}},
    "inconclusive": EXAMPLE | {"finite_difference": {"method": "central", "step": 100}},
    "sample": EXAMPLE | {"finite_difference": {"sample": 2}},
    "projections": EXAMPLE | {"finite_difference": {"projections": 23}, "candidate": {"w1": WRONG_GRADIENT}},
    "one projection": EXAMPLE | {"finite_difference": {"method": "central", "step": 100, "projections": 1}},
    "kinks": KINKED_REQUEST,
    "large": LARGE_REQUEST,
}
ENCODINGS = ("nested", "b64")


@cache
def make_report(case: str, encoding: str = "nested") -> Any:
    """The report on a request; not to be changed."""
    return check(REQUESTS[case] | {"encoding": encoding})


def make_product_report(names: list[str], **fields: Any) -> Any:
    """A report on the product of a number of each name."""
    chain = itertools.pairwise(["x", *(f"p{number}" for number in range(len(names)))])
    nodes = [
        {"name": after, "op": "mul", "inputs": [before, name]}
        for (before, after), name in zip(chain, names, strict=True)
    ]
    nodes.append({"name": "the loss", "op": "half_squared_error", "inputs": [nodes[-1]["name"], "x"]})
    weights = dict.fromkeys(names, 0.99)
    return check({"tensors": {"x": 1.5}, "weights": weights, "model": {"nodes": nodes}} | fields)


def make_named_report(name: str) -> Any:
    """A report in which a name stands wherever a request may have put one."""
    report = dict(make_report("another shape"))
    wrong, right = make_report("fail")["verdicts"]["w1"], make_report("kinks")["verdicts"]["w"]
    diagnosis = {"name": "sign_flipped", "explanation": f"the gradient of {name} has the other sign", "fit": 1e-15}
    loss = {"name": name, "op": "linear", "inputs": {"input": name, "weight": 1.0}, "reduction": name, "dim": [0, None]}
    text = f"{write_name(name)} = linear({write_name(name)}, 1.0, reduction={write_value(name)}, dim=[0, None])"
    return report | {
        "summary": f"{name}: fail of {name}",
        "gradients": {name: report["gradients"]["w1"], "w": report["gradients"]["w2"]},
        "discrepancies": {name: report["discrepancies"]["w1"], "w": report["discrepancies"]["w2"]},
        "verdicts": {name: wrong | {"reason": f"Because of {name}.", "diagnoses": [diagnosis]}, "w": right},
        "intermediates": {name: {"value": 1.0, "analytic": "NaN", "autograd": 2.0}},
        "model": {"nodes": [loss]},
        "model_text": text,
    }


NASTY_TEXTS = [
    "|", "`", "``", "\\", "\\|", "\n", "\r\n", "\x1b[31m", "\x1b]0;title\x07", "\x9b31m", "\t", "\u202e", "\u2066",
    "\u200b", "\u0301", "\ufe0f", "名", "\U0001f600", "\u05d0", "\u0627", "\u2028", "\ud800", "<b>", "</details>",
    "<!--", "&lt;", "@octocat", "#1", "- ", "# ", "1. ", "```", "~~~", "[a](b)", "![a](b)", "*", "_", "$x$", "http://a.b",
    "www.a.b", " ", "\u115f", "\u3164", "\u3000", "\u00ad", "a", "w1",
]  # fmt: skip
NAME_STRATEGY = st.one_of(
    st.text(max_size=300),
    st.lists(st.sampled_from(NASTY_TEXTS), max_size=60).map("".join),
    st.sampled_from(NASTY_TEXTS).map(lambda text: text * 200),
)
