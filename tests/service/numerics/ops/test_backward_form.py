"""Formulas of backward passes: their values, and the bugs that are generated from them."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from service.numerics.core.batching import Array
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.backward_form import GENERATED_BUGS, BackwardForm
from service.numerics.ops.composite import CompositeOp
from service.numerics.ops.formula import Scope, evaluate, iterate_names, normalise, parse_formula
from service.numerics.ops.formula_op import FormulaBugs, FormulaChange, iterate_changes
from service.numerics.ops.op import OP_FORMS, BackwardPass, Gradients, Op
from tests.op_graphs import build_op_graph

OPS_AND_FORMS = OP_REGISTRY | {f"{name}, {form}": op for (name, form), op in OP_FORMS.items() if "examples" in vars(op)}
FORMULA_OPS = {name: op for name, op in OPS_AND_FORMS.items() if issubclass(op, FormulaBugs)}
"""Ops that state formulas; a composite one evaluates them for its bugs alone."""


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
    texts = {
        key: "the same with other quantities" if variant.formula is None else form.write(variant.formula)
        for key, (_, variant) in variants.items()
    }
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
        "x:wrong_factor:c for every a": "the same with other quantities",
    }


@pytest.mark.parametrize("field", ["published", "omitted"])
def test_a_key_of_no_variant_is_refused(field: str) -> None:
    values: dict[str, Any] = {"published": {"x:term_missing:b": ("name", "clause")}, "omitted": ("x:term_missing:b",)}
    with pytest.raises(ValueError, match="no variant has the key"):
        BackwardForm({"x": "a * b"}, **{field: values[field]}).list_variants()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a * b / c", "b / c * a"),
        ("a - b + a", "2 * a - b"),
        ("s * (1 + x * (1 - s))", "s + x * s - x * s * s"),
        ("p / (p * (1 - p))", "1 / (1 - p)"),
        ("mean(a * b) @ c", "mean(b * a) @ c"),
        ("y * (1 - s)", "x * s - x * s * s"),
    ],
)
def test_equal_formulas_have_one_normal_form(first: str, second: str) -> None:
    identities = {"y": parse_formula("x * s")}
    assert normalise(parse_formula(first), identities) == normalise(parse_formula(second), identities)


@pytest.mark.parametrize(
    ("first", "second"), [("a - b", "b - a"), ("a @ b", "b @ a"), ("a / (b + c)", "a / b + a / c")]
)
def test_other_formulas_have_another_normal_form(first: str, second: str) -> None:
    assert normalise(parse_formula(first)) != normalise(parse_formula(second))


def test_edits_that_are_equal_are_made_once() -> None:
    form = BackwardForm({"x": "g * (1 - t * t)"}, spellings={"x": ["g - g * t * t"]}, declared={"x": ["g * (1 - t)"]})
    texts = [form.write(variant.formula) for _, variant in form.list_variants().values() if variant.formula is not None]
    assert sorted(texts) == sorted(set(texts))
    assert "g (1 - ones(t) t)" not in texts


def test_edit_of_a_definition_changes_every_gradient_that_uses_it() -> None:
    form = BackwardForm({"x": "d * a", "y": "d * b", "z": "g"}, definitions={"d": "g * (a - b)"})
    assert form.list_slots_with("d") == ["x", "y"]
    kinds = {(place, variant.kind) for place, variant in form.list_variants().values()}
    assert ("d", "term_missing") in kinds
    assert form.describe_place("d") == " in d = g (a - b)"


def list_points(op: type[Op]) -> list[tuple[Op, tuple[Any, ...]]]:
    """The op of each example, with a gradient, an output and inputs."""
    points: list[tuple[Op, tuple[Any, ...]]] = []
    for case in op.examples:
        graph, leaves = build_op_graph(op, case)
        values = graph.forward(leaves)
        upstream = np.random.default_rng(0).normal(size=values["output"].shape)
        node = graph.listed_nodes[0] if issubclass(op, CompositeOp) else graph.nodes[0]
        inputs = graph.get_operand_arrays(node, values)
        resolved = node.op.resolve_shape_defaults(*graph.get_operand_shapes(node))
        points.append((resolved, (upstream, values["output"], *inputs)))
    return points


def run_right_pass(op: Op, *arrays: Any) -> Gradients:
    """The backward pass, through the steps of a composite op."""
    assert isinstance(op, FormulaBugs)
    return op.evaluate_right_formulas(*arrays) if isinstance(op, CompositeOp) else op.backward(*arrays)


def run_at_examples(op: type[Op], backward: BackwardPass) -> list[Array]:
    """Gradients of all inputs of each example, one after the other."""
    results: list[Array] = []
    for form, arrays in list_points(op):
        with np.errstate(all="ignore"):
            gradients = backward(form, *arrays)
        results.append(np.concatenate([np.ravel(gradient) for gradient in gradients if gradient is not None]))
    return results


@pytest.mark.parametrize("op", FORMULA_OPS.values(), ids=FORMULA_OPS)
def test_stated_formulas_are_the_backward_pass(op: type[FormulaBugs]) -> None:
    for case in op.examples:
        graph, leaves = build_op_graph(op, case)
        values = graph.forward(leaves)
        gradients = graph.backward(values)
        node = graph.listed_nodes[0]
        form = (node if issubclass(op, CompositeOp) else graph.nodes[0]).op
        assert isinstance(form, FormulaBugs)
        operands = node.operands[: len(form.slots)]
        inputs = graph.get_operand_arrays(node, values)[: len(form.slots)]
        for operand, result in zip(
            operands, form.evaluate_right_formulas(gradients["output"], values["output"], *inputs), strict=True
        ):
            if result is not None and operand not in graph.leaf_kinds:
                assert isinstance(operand, str)
                np.testing.assert_allclose(result, gradients[operand], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("op", FORMULA_OPS.values(), ids=FORMULA_OPS)
def test_many_changes_at_once_are_those_one_by_one(op: type[FormulaBugs]) -> None:
    changes = [bug.change for bug in op.bugs.values() if isinstance(bug.change, FormulaChange)]
    for form, arrays in list_points(op)[:2]:
        assert isinstance(form, FormulaBugs)
        right = run_right_pass(form, *arrays)
        together = [*iterate_changes(changes, form, right, *arrays)]
        for change, results in zip(changes, together, strict=True):
            for one, other in zip(change(form, right, *arrays), results, strict=True):
                assert (one is None) == (other is None)
                if one is not None and other is not None:
                    np.testing.assert_allclose(one, other, rtol=1e-13)


def are_equal(first: list[Array], second: list[Array]) -> bool:
    return all(
        np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True) for one, other in zip(first, second, strict=True)
    )


def find_equal_pairs(op: type[Op]) -> list[tuple[str, str]]:
    """Pairs of bugs, one of them generated, or of a bug and the right pass, that no example tells apart."""
    bugs = type(list_points(op)[0][0]).bugs
    passes = {"right": run_right_pass} | {key: bug.backward for key, bug in bugs.items()}
    generated = {key for key, bug in bugs.items() if bug.is_generated}
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
def test_every_name_of_a_formula_is_defined(op: type[FormulaBugs]) -> None:
    form_op, arrays = list_points(op)[0]
    assert isinstance(form_op, FormulaBugs)
    scope = form_op.complete_scope(*arrays)
    form = form_op.backward_form
    texts = [text for others in (*form.alternatives.values(), *form.spellings.values()) for text in others]
    formulas = [*form.formulas.values(), *form.definition_formulas.values(), *map(parse_formula, texts)]
    names = {name for formula in formulas for name in iterate_names(formula) if name[0].isalpha()}
    names |= {other for others in (*form.look_alikes.values(), *form.stand_ins.values()) for other in others}
    assert names <= scope.keys()


def test_published_names_stay() -> None:
    """Names of bugs that had a backward pass written out before."""
    names = {name: {bug.bug_name for bug in op.bugs.values()} for name, op in FORMULA_OPS.items()}
    assert {"missing_mean_path", "missing_variance_path", "channel_factor_missing"} <= names["layer_norm"]
    assert {"missing_variance_path", "channel_factor_missing"} <= names["rms_norm"]
    assert "softmax_jacobian_diagonal_only" in names["softmax"]
    assert {"softmax_jacobian_diagonal_only", "missing_one_hot"} <= names["log_softmax"]
