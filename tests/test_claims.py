"""The claims, the method, the glossary and the walks of the documents agree with the code."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gradcheckd.command import main
from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis import bug
from service.numerics.diagnosis.bugs import GRADIENT_BUGS
from service.numerics.diagnosis.matching import BugHypothesis
from service.numerics.gradients.analytic import differentiate_analytically
from service.numerics.gradients.autograd import differentiate_by_torch
from service.numerics.gradients.finite_difference import differentiate_numerically
from service.numerics.ops import OP_REGISTRY, backward_form, composite, elementwise, formula_op
from service.numerics.ops import formula as formula_module
from service.numerics.ops import op as op_module
from service.numerics.verdict.outcome import Cause, Outcome
from tests import test_every_op
from tests.application_server import serve_application
from tests.document_text import DOCS, ROOT, read_table
from tests.op_graphs import build_op_graph


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_application() as address:
        yield address


def test_claims_state_the_limits_of_each_arithmetic() -> None:
    stated = {
        name: (float(error), float(fraction)) for name, error, fraction in read_table("claims.md", "arithmetic |")
    }
    assert stated == {
        name: (precision.detectable_error, precision.negligible_fraction) for name, precision in PRECISIONS.items()
    }


def test_claims_have_a_row_for_each_cause() -> None:
    for header, outcome in (("cause | meaning |", Outcome.FAIL), ("cause | meaning | remedy", Outcome.INCONCLUSIVE)):
        assert len(read_table("claims.md", header)) == sum(cause.outcome == outcome for cause in Cause)


def test_claims_state_the_coverage_that_was_measured() -> None:
    rows = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())["rows"]
    ((count, percent),) = re.findall(
        r"all of ([\d,]+) error bounds held, and the largest error\nwas (\d+) % of its bound",
        (DOCS / "claims.md").read_text(),
    )
    assert all(row["covered"] == 1 and row["unbounded"] == 0 for row in rows)
    assert int(count.replace(",", "")) == sum(row["elements"] for row in rows)
    assert int(percent) == round(100 * max(row["worst"] for row in rows))


def test_claims_state_the_exit_statuses(address: str, tmp_path: Path) -> None:
    (row,) = [cells[1:] for cells in read_table("claims.md", "where |") if cells[0].startswith("`gradcheckd check`")]
    statuses = [int(cell.removeprefix("exit status ")) for cell in row]
    gradient, expected = {"datatype": "FP64", "shape": [1]}, []
    for data, more in (([3.0], {}), ([4.0], {}), ([3.0], {"tolerance": {"rtol": 0}}), ([3.0], {"seed": "none"})):
        request = {
            "tensors": {"x": [3.0]}, "weights": {"w": [2.0]}, "candidate": {"w": gradient | {"data": data}},
            "model": {"nodes": [{"name": "y", "op": "mul", "inputs": ["x", "w"]},
                                {"name": "e", "op": "exp", "inputs": ["y"]},
                                {"name": "l", "op": "log", "inputs": ["e"]},
                                {"name": "loss", "op": "sum", "inputs": ["l"]}]},
        }  # fmt: skip
        path = tmp_path / "request.json"
        path.write_text(json.dumps(request | more))
        expected.append(main(["check", str(path), "--url", address, "--output", str(tmp_path / "report.txt")]))
    assert statuses == expected


def test_glossary_defines_each_word_once_in_order() -> None:
    words = [word for word, _ in read_table("glossary.md", "word |")]
    assert words == sorted(set(words))


def find_code_block(path: Path, beginning: str) -> str:
    """The Python block of a document that begins so."""
    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
        if block.startswith(beginning)
    ]
    return block


def test_op_of_the_walk_has_three_gradients_that_agree() -> None:
    names = dict(vars(elementwise))
    exec(find_code_block(DOCS / "adding-an-op.md", '@register_op("haversine")'), names)
    haversine = OP_REGISTRY.pop("haversine")
    for example in haversine.examples:
        graph, leaves = build_op_graph(haversine, example)
        by_hand = differentiate_analytically(graph, leaves).gradients["input"]
        by_torch = differentiate_by_torch(graph, leaves).gradients["input"]
        difference = differentiate_numerically(graph, leaves, ["input"])["input"]
        np.testing.assert_allclose(by_hand, by_torch, rtol=1e-13)
        assert (np.abs(by_hand - difference.value) <= 2 * difference.error_bound + 1e-13 * np.abs(by_hand)).all()
        wrong = haversine.bugs["half_forgotten"].backward
        by_mistake = differentiate_analytically(graph, leaves, {"output": partial(wrong, graph.nodes[0].op)})
        assert (np.abs(by_mistake.gradients["input"] - difference.value) > difference.error_bound).any()
    assert set(haversine.bugs) == {"half_forgotten", "not_chained", "missing_activation_derivative"}


def test_composition_and_formula_of_the_walk_pass_the_checks_of_every_op() -> None:
    modules = (op_module, composite, backward_form, formula_module, formula_op)
    names = {name: value for module in modules for name, value in vars(module).items()}
    for name in ("logsigmoid_of_difference", "centre"):
        exec(find_code_block(DOCS / "adding-an-op.md", f'@register_op("{name}")'), names)
    composition, formula = OP_REGISTRY.pop("logsigmoid_of_difference"), OP_REGISTRY.pop("centre")
    for op in (composition, formula):
        for example in op.examples:
            test_every_op.test_the_three_routes_agree(op, example)
            test_every_op.test_forward_agrees_with_the_shape_rule_and_with_pytorch(op, example)
            test_every_op.test_float32_stays_within_its_rounding(op, example)
    assert {bug.bug_name for bug in formula.bugs.values()} == {
        "missing_mean_path", "term_missing", "term_doubled", "term_sign", "wrong_reduction"
    }  # fmt: skip
    for key, op_bug in formula.bugs.items():
        assert test_every_op.is_caught(formula, op_bug.backward), key


def test_bug_of_the_walk_is_named() -> None:
    names = dict(vars(bug)) | {"np": np, "BugHypothesis": BugHypothesis}
    request = json.loads((ROOT / "examples/reference.json").read_text())
    gradient = np.array(check(request)["gradients"]["w1"]["analytic"])
    request["candidate"] = {"w1": np.flip(gradient).tolist()}

    def list_diagnoses() -> set[str]:
        return {diagnosis["name"] for diagnosis in check(request)["verdicts"]["w1"]["diagnoses"]}

    assert "reversed" not in list_diagnoses()
    exec(find_code_block(ROOT / "CONTRIBUTING.md", "@register_gradient_bug"), names)
    try:
        assert "reversed" in list_diagnoses()
    finally:
        del GRADIENT_BUGS["reversed"]


def test_method_names_modules_that_exist() -> None:
    numerics = ROOT / "service" / "numerics"
    modules = {path.relative_to(numerics).as_posix() for path in numerics.rglob("*")}
    for line in re.findall(r"^Modules?: (.*)\.$", (DOCS / "method.md").read_text(), re.MULTILINE):
        for name in re.findall(r"`([\w/.]+)`", line):
            assert any(module == name.rstrip("/") or module.endswith(f"/{name}") for module in modules), name
