"""Formulas of backward passes: their values, and the bugs that are generated from them."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from service.numerics.core.batching import Array
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.backward_form import (
    GENERATED_BUGS,
    BackwardForm,
    FormulaOp,
    Scope,
    evaluate,
    iterate_names,
    parse_formula,
)
from service.numerics.ops.op import BackwardPass, Op
from tests.op_graphs import build_op_graph

FORMULA_OPS = {name: op for name, op in OP_REGISTRY.items() if issubclass(op, FormulaOp)}


def make_scope(**numbers: float) -> Scope:
    scope = Scope().add_quantities(
        **{name: lambda number=number: np.array([number]) for name, number in numbers.items()}
    )
    return scope.add_functions(double=lambda array: 2 * array)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a", 2.0),
        ("-a + b - c", -2 + 3 - 5),
        ("a - (b - c)", 2 - (3 - 5)),
        ("a / b / c * 7", 2 / 3 / 5 * 7),
        ("a * (b + double(c - a))", 2 * (3 + 2 * 3)),
        ("1.5 * -a", -3.0),
    ],
)
def test_a_formula_has_the_value_that_python_gives_it(formula: str, value: float) -> None:
    np.testing.assert_allclose(evaluate(parse_formula(formula), make_scope(a=2, b=3, c=5)), [value], rtol=1e-15)


@pytest.mark.parametrize("formula", ["a ** 2", "a.b", "f(a, b)", "a if b else c", "f(a=b)", "__import__('os')"])
def test_anything_else_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match="a formula has no"):
        parse_formula(formula)


def test_every_kind_of_edit_is_made() -> None:
    form = BackwardForm(
        {"x": "fit(a * (g - mean(b * g)))"},
        look_alikes={"b": {"c": "c stood for b"}, "mean": {"sum": "the sum stood for the mean"}},
        stand_ins={"a": {"c": "c stood for every a"}},
        alternatives={"x": {"fit(g)": "the gradient was handed on"}},
        layouts=("fit",),
    )
    variants = form.list_variants()
    assert {variant.kind for _, variant in variants.values()} == GENERATED_BUGS.keys()
    texts = {key: form.write(variant.formula) for key, (_, variant) in variants.items()}
    assert texts == {
        "x:factor_missing:a": "ones(a) (g - mean(b g))",
        "x:factor_squared:a": "a a (g - mean(b g))",
        "x:factor_inverted:a": "1 / a (g - mean(b g))",
        "x:factor_missing:g - mean(b g)": "a ones(g - mean(b g))",
        "x:term_missing:g": "a (-mean(b g))",
        "x:term_doubled:g": "a (g + g - mean(b g))",
        "x:term_sign:g": "a (-g - mean(b g))",
        "x:term_missing:mean(b g)": "a (g)",
        "x:term_doubled:mean(b g)": "a (g - mean(b g) - mean(b g))",
        "x:term_sign:mean(b g)": "a (g + mean(b g))",
        "x:reduction_missing:mean(b g)": "a (g - b g)",
        "x:wrong_reduction:sum for mean in mean(b g)": "a (g - sum(b g))",
        "x:factor_missing:b": "a (g - mean(ones(b) g))",
        "x:factor_squared:b": "a (g - mean(b b g))",
        "x:factor_inverted:b": "a (g - mean(1 / b g))",
        "x:wrong_factor:c for b": "a (g - mean(c g))",
        "x:factor_missing:g": "a (g - mean(b ones(g)))",
        "x:wrong_formula:fit(g)": "g",
        "x:wrong_factor:c for every a": "a (g - mean(b g))",
    }


@pytest.mark.parametrize("field", ["published", "omitted"])
def test_a_key_of_no_variant_is_refused(field: str) -> None:
    values: dict[str, Any] = {"published": {"x:term_missing:b": ("name", "clause")}, "omitted": ("x:term_missing:b",)}
    with pytest.raises(ValueError, match="no variant has the key"):
        BackwardForm({"x": "a * b"}, **{field: values[field]}).list_variants()


def run_at_examples(op: type[Op], backward: BackwardPass) -> list[Array]:
    """Gradients of all inputs of each example, one after the other."""
    results: list[Array] = []
    for case in op.examples:
        graph, leaves = build_op_graph(op, case)
        values = graph.forward(leaves)
        upstream = np.random.default_rng(0).normal(size=values["output"].shape)
        inputs = graph.get_operand_arrays(graph.nodes[0], values)
        with np.errstate(all="ignore"):
            gradients = backward(graph.nodes[0].op, upstream, values["output"], *inputs)
        results.append(np.concatenate([np.ravel(gradient) for gradient in gradients if gradient is not None]))
    return results


def are_equal(first: list[Array], second: list[Array]) -> bool:
    return all(
        np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True) for one, other in zip(first, second, strict=True)
    )


def find_equal_pairs(op: type[Op]) -> list[tuple[str, str]]:
    """Pairs of bugs, one of them generated, or of a bug and the right pass, that no example tells apart."""
    passes = {"right": op.backward} | {key: bug.backward for key, bug in op.bugs.items()}
    generated = {key for key, bug in op.bugs.items() if bug.is_generated}
    results = {key: run_at_examples(op, backward) for key, backward in passes.items()}
    return [
        (first, second)
        for first, second in combinations(results, 2)
        if generated & {first, second} and are_equal(results[first], results[second])
    ]


@pytest.mark.parametrize("op", FORMULA_OPS.values(), ids=FORMULA_OPS)
def test_generated_bugs_differ_from_one_another_and_from_the_right_pass(op: type[Op]) -> None:
    assert find_equal_pairs(op) == []


def test_variants_that_are_equal_are_noticed() -> None:
    """The mean of z is 0 in a layer norm: to leave h out of mean(h z) is to leave the term out."""
    op = FORMULA_OPS["layer_norm"]
    form = op.backward_form
    careless = type("Careless", (op,), {"backward_form": BackwardForm(form.gradients, layouts=form.layouts)})
    careless.bugs = careless.generate_bugs()
    pairs = find_equal_pairs(careless)
    assert ("input:term_missing:z mean(h z)", "input:factor_missing:h") in pairs


@pytest.mark.parametrize("op", FORMULA_OPS.values(), ids=FORMULA_OPS)
def test_every_name_of_a_formula_is_defined(op: type[FormulaOp]) -> None:
    graph, leaves = build_op_graph(op, op.examples[0])
    values = graph.forward(leaves)
    node = graph.nodes[0]
    assert isinstance(node.op, FormulaOp)
    scope = node.op.make_scope(values["output"], values["output"], *graph.get_operand_arrays(node, values))
    form = op.backward_form
    names = {name for formula in form.formulas.values() for name in iterate_names(formula)}
    names |= {other for others in (*form.look_alikes.values(), *form.stand_ins.values()) for other in others}
    assert names <= scope.keys()


def test_published_names_stay() -> None:
    """Names of bugs that had a backward pass written out before."""
    names = {name: {bug.bug_name for bug in op.bugs.values()} for name, op in FORMULA_OPS.items()}
    assert {"missing_mean_path", "missing_variance_path", "channel_factor_missing"} <= names["layer_norm"]
    assert {"missing_variance_path", "channel_factor_missing"} <= names["rms_norm"]
    assert "softmax_jacobian_diagonal_only" in names["softmax"]
    assert {"softmax_jacobian_diagonal_only", "missing_one_hot"} <= names["log_softmax"]
