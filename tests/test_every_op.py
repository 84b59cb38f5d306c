"""One loop over ops, cases and routes. It checks itself by planting errors that it must find."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.numerics.core.batching import Array, Shape
from service.numerics.core.difference import Difference
from service.numerics.core.precision import DTYPES, PRECISIONS, ComputeDtype
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.model.graph import Graph, InvalidModelError, NamedArrays, Node
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS, MonteCarloRounding
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.composite import CompositeOp, SeveralOutputsOp
from service.numerics.ops.elementwise import UnaryOp
from service.numerics.ops.op import OP_FORMS, BackwardPass, Gradients, Op, OpExample
from service.numerics.ops.op import register_op as declare
from service.numerics.ops.reduction import Mean, Sum
from service.numerics.ops.shape import Flatten
from tests.op_graphs import build_op_graph
from tests.random_graphs import draw_graph

OPS_AND_FORMS = OP_REGISTRY | {f"{name}, {form}": op for (name, form), op in OP_FORMS.items() if "examples" in vars(op)}
"""Ops, and the forms of ops that have passes of their own."""
EVERY = [
    pytest.param(op, case, id=f"{name}-{number}")
    for name, op in sorted(OPS_AND_FORMS.items())
    for number, case in enumerate(op.examples)
]
every_op = pytest.mark.parametrize(("op", "case"), EVERY)
OPS_WITH_EXAMPLES = {name: op for name, op in OP_REGISTRY.items() if op.examples}
"""Ops with one output of floats. The others have tests of their own."""
PRIMITIVE_OPS = {name: op for name, op in OPS_WITH_EXAMPLES.items() if not issubclass(op, CompositeOp)}
every_primitive = pytest.mark.parametrize(
    ("op", "case"), [case for case in EVERY if case.values[0].name in PRIMITIVE_OPS]
)
"""Ops with passes of their own: a graph holds the steps of the others."""


def names_of(graph: Graph) -> list[str]:
    return [name for name in graph.public_names if name not in ("loss", "goal", *graph.leaf_kinds)]


def cast_floats(leaves: NamedArrays, dtype: type[np.floating]) -> NamedArrays:
    return {name: leaf.astype(dtype) if leaf.dtype.kind == "f" else leaf for name, leaf in leaves.items()}


class OpProblem:
    """A case of an op, and what the other two routes find in it, whatever its backward pass."""

    def __init__(self, op: type[Op], case: OpExample) -> None:
        self.case = case
        self.graph, self.leaves = build_op_graph(op, case)

    @cached_property
    def by_torch(self) -> NamedArrays:
        return autograd.differentiate_by_torch(self.graph, self.leaves).gradients

    @cached_property
    def differences(self) -> Mapping[str, Difference]:
        return finite_difference.differentiate_numerically(self.graph, self.leaves, names_of(self.graph))

    @cached_property
    def rounding(self) -> NamedArrays:
        return estimate_rounding_allowances(self.graph, self.leaves, PRECISIONS["FP64"], seed=0)

    def find_disagreements(self, override: dict[str, BackwardPass] | None = None) -> list[str]:
        """Names at which the routes disagree by more than error bound and rounding allow."""
        by_hand = analytic.differentiate_analytically(self.graph, self.leaves, override).gradients
        return [
            name
            for name in names_of(self.graph)
            if (np.abs(by_hand[name] - self.by_torch[name]) > 2 * self.rounding[name]).any()
            or (
                np.abs(by_hand[name] - (difference := self.differences[name]).value)
                > difference.error_bound + self.rounding[name]
            ).any()
        ]


_PROBLEMS: dict[tuple[type[Op], int], OpProblem] = {}


def get_problem(op: type[Op], case: OpExample) -> OpProblem:
    """The problem of a case, for the many backward passes that are tried on it."""
    key = op, id(case)  # the problem keeps the case, so that no other gets its id
    if key not in _PROBLEMS:
        _PROBLEMS[key] = OpProblem(op, case)
    return _PROBLEMS[key]


@pytest.mark.covers_by_cases
@every_op
def test_the_three_routes_agree(op: type[Op], case: OpExample) -> None:
    assert OpProblem(op, case).find_disagreements() == []


@every_op
def test_bound_of_the_difference_is_tight(op: type[Op], case: OpExample) -> None:
    """A bound so wide that anything agrees would make the loop blind."""
    for difference in get_problem(op, case).differences.values():
        assert np.median(difference.error_bound) <= 1e-8 * max(np.abs(difference.value).max(), 1e-3)


def _change_results(factor: Callable[[Array], Array]) -> Callable[[Gradients], Gradients]:
    return lambda results: tuple(None if result is None else factor(result) for result in results)


def _change_first_element(result: Array) -> Array:
    wrong = result.copy()
    wrong.reshape(wrong.shape[0], -1)[:, 0] += 1e-4 * np.abs(result).max() + 1e-7
    return wrong


PLANTED = {
    "sign": _change_results(lambda result: 1e-6 - result),
    "factor": _change_results(lambda result: result * 1.0001 + 1e-7),
    "one element": _change_results(_change_first_element),
    "zeros": _change_results(lambda result: result * 0 + 1e-3),
    "swapped": _change_results(lambda result: np.flip(result) * 1.001 + 1e-6),
}


UNREACHED_BY_FIRST_ELEMENT = {"selective_scan": {"A"}}
"""Inputs on which the first element of the output does not depend: no state precedes it."""


@every_op
@pytest.mark.parametrize("error", PLANTED)
def test_a_wrong_backward_is_caught(op: type[Op], case: OpExample, error: str) -> None:
    problem = get_problem(op, case)
    graph = problem.graph
    node = next(node for node in graph.nodes if node.name == "output")

    def wrong(gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return PLANTED[error](node.op.backward(gradient, output, *inputs))

    expected = set(graph.listed_nodes[0].source_names) - graph.leaf_kinds.keys()
    if error == "one element":
        expected -= UNREACHED_BY_FIRST_ELEMENT.get(op.name, set())
    assert set(problem.find_disagreements({"output": wrong})) == expected


MUTANTS = [
    pytest.param(op, mutant.backward, id=f"{name}-{method}")
    for name, op in sorted(OPS_AND_FORMS.items())
    if not issubclass(op, CompositeOp)
    for method, mutant in op.bugs.items()
    if not mutant.shows_only_at_ties
]
"""Those that show at ties alone are caught in the tests of `service.numerics.ties`."""


def is_caught(op: type[Op], wrong: BackwardPass) -> bool:
    """Whether the routes disagree, in any case of the op, where its backward pass is replaced."""
    for case in op.examples:
        problem = get_problem(op, case)
        with np.errstate(all="ignore"):
            if problem.find_disagreements({"output": partial(wrong, problem.graph.nodes[0].op)}):
                return True
    return False


@pytest.mark.covers_by_cases
@pytest.mark.parametrize(("op", "wrong"), MUTANTS)
def test_every_bug_of_an_op_is_caught(op: type[Op], wrong: BackwardPass) -> None:
    assert is_caught(op, wrong)


@pytest.mark.parametrize("op", PRIMITIVE_OPS.values(), ids=PRIMITIVE_OPS)
def test_every_op_has_a_bug_that_differs_from_its_backward(op: type[Op]) -> None:
    assert op.bugs
    assert not is_caught(op, op.backward)


@pytest.mark.covers_by_cases
@every_op
def test_forward_agrees_with_the_shape_rule_and_with_pytorch(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    output = graph.forward(leaves)["output"]
    assert output.shape == (1, *graph.shapes["output"])
    loss = autograd.differentiate_by_torch(graph, leaves).loss
    np.testing.assert_allclose(graph.forward(leaves)["loss"][0], loss, rtol=1e-13)


def iterate_misfit_shapes(case: OpExample) -> Iterator[tuple[Shape | None, ...]]:
    """Shapes of a case with one of them spoilt."""
    for position, shape in enumerate(case.input_shapes):
        for spoilt in ((), (7,), (*(shape or ()), 7), (1, 1, 1, 1, 7, 11, 13)):
            yield (*case.input_shapes[:position], spoilt, *case.input_shapes[position + 1 :])


def get_refusal(nodes: list[Node], leaves: dict[str, Shape], kinds: dict[str, str]) -> str:
    """With what text a graph is refused; empty if it is taken."""
    try:
        Graph(nodes, leaves, kinds)
    except InvalidModelError as error:
        return str(error)
    return ""


TAKES_ANY_SHAPE = ("amax", "kron", "softsign", "squeeze", "take", "tanhshrink", "vector_norm")


@pytest.mark.covers_by_cases
@pytest.mark.parametrize("op", OPS_WITH_EXAMPLES.values(), ids=OPS_WITH_EXAMPLES)
def test_shapes_that_do_not_fit_are_refused_by_name(op: type[Op]) -> None:
    """The node, the op and the shape of every input stand in the text; some ops take one tensor of any shape."""
    refused = 0
    for case in op.examples:
        declared = op(**case.attributes)
        for shapes in iterate_misfit_shapes(case):
            leaves = {f"t{number}": shape for number, shape in enumerate(shapes) if shape is not None}
            names = tuple(None if shape is None else f"t{number}" for number, shape in enumerate(shapes))
            kinds = {
                name: declared.get_slot(number).kinds[0]
                for number, name in enumerate(names)
                if name is not None and "float" not in declared.get_slot(number).kinds
            }
            text = get_refusal(
                [Node("node", declared, names), Node("loss", OP_REGISTRY["sum"](), ("node",))], leaves, kinds
            )
            if text:
                refused += 1
                assert f"node 'node' ({op.name}) takes " in text
                assert all(f"{name!r} of shape {list(shape)}" in text for name, shape in leaves.items())
    takes_any = issubclass(op, UnaryOp | Sum | Mean | Flatten) or op.name in TAKES_ANY_SHAPE
    assert refused or takes_any


@pytest.mark.covers_by_cases
@every_op
@pytest.mark.parametrize("moved", [0, -1])
def test_tiles_are_evaluations_side_by_side(op: type[Op], case: OpExample, moved: int) -> None:
    """Forward, backward and rounding of K tiles, of all inputs or of one, are those of each tile alone."""
    graph, leaves = build_op_graph(op, case)
    names = [name for name in graph.listed_nodes[0].source_names if name not in graph.leaf_kinds]
    others = [build_op_graph(op, case, seed)[1] for seed in (1, 2, 3)]
    tiles = dict(leaves)
    for name in names if moved == 0 else names[moved:]:
        tiles[name] = np.concatenate([other[name] for other in others])
    values = graph.forward(tiles)
    gradients = graph.backward(values)
    for tile in range(3):
        alone = {name: tiled[min(tile, len(tiled) - 1)][None] for name, tiled in tiles.items()}
        expected = graph.forward(alone)
        backward = graph.backward(expected)
        np.testing.assert_allclose(values["output"][min(tile, len(values["output"]) - 1)], expected["output"][0])
        for name in names:
            gradient = gradients[name]
            np.testing.assert_allclose(
                gradient[min(tile, len(gradient) - 1)], backward[name][0], rtol=1e-12, atol=1e-14
            )


@every_primitive
def test_one_gradient_serves_the_tiles_of_the_inputs(op: type[Op], case: OpExample) -> None:
    """Under a linear loss the gradient is the same in all tiles, while the inputs differ."""
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    others = [build_op_graph(op, case, seed)[1] for seed in (1, 2, 3)]
    gradient = np.random.default_rng(0).normal(size=(1, *graph.shapes["output"]))

    def backward(inputs: NamedArrays) -> dict[str, Array | None]:
        operands = [None if operand is None else inputs[str(operand)] for operand in node.operands]
        results = node.op.backward(gradient, node.op.forward(*operands), *operands)
        return {
            str(operand): result for operand, result in zip(node.operands, results, strict=True) if operand is not None
        }

    for moved in node.source_names:
        if moved in graph.leaf_kinds:
            continue
        results = backward(leaves | {moved: np.concatenate([other[moved] for other in others])})
        for tile, other in enumerate(others):
            for name, expected in backward(leaves | {moved: other[moved]}).items():
                if expected is not None:
                    result = results[name]
                    assert result is not None
                    np.testing.assert_allclose(result[min(tile, len(result) - 1)], expected[0], rtol=1e-12, atol=1e-14)


@every_primitive
def test_rounding_has_the_shapes_of_its_arrays(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    values = graph.forward(leaves)
    inputs = [None if operand is None else values[str(operand)] for operand in node.operands]
    output = values["output"]
    for owner in (node.op, _use_default_rounding(node.op)):
        forward = owner.estimate_forward_rounding(output, *inputs)
        assert forward is None or forward.magnitude.shape == output.shape
        backward = owner.estimate_backward_rounding(np.ones_like(output), output, *inputs)
        for rounding, operand in zip(backward, inputs, strict=True):
            assert rounding is None or rounding.magnitude.shape == operand.shape
            assert rounding is None or (rounding.magnitude >= 0).all()


@every_primitive
def test_errors_are_added_to_what_the_op_computes(op: type[Op], case: OpExample) -> None:
    """The first tile has none: there it is the op's own output and gradients, by whatever steps they were found."""
    graph, leaves = build_op_graph(op, case)
    node, observer = graph.nodes[0], MonteCarloRounding(PRECISIONS["FP32"], np.random.default_rng(0))
    inputs = get_operands(graph, leaves)
    output = node.op.forward(*inputs)
    gradient = np.random.default_rng(1).normal(size=output.shape)
    pairs = [(node.op.forward_with_errors(observer, *inputs), output)]
    results = node.op.backward_with_errors(observer, gradient, output, *inputs)
    pairs += zip(results, node.op.backward(gradient, output, *inputs), strict=True)
    for pair, expected in pairs:
        if pair is None or expected is None:
            assert pair is expected
            continue
        assert pair.shape in (expected.shape, (ROUNDING_SWEEPS + 1, *expected.shape[1:]))
        np.testing.assert_allclose(pair[:1], expected, rtol=1e-12, atol=1e-13)


def _use_default_rounding(op: Op) -> Op:
    """The op as if it declared no rounding of its own."""
    defaults = {"rounding": Op.estimate_forward_rounding, "backward_rounding": Op.estimate_backward_rounding}
    plain = type("Plain", (type(op),), defaults)
    return plain(**{field.name: getattr(op, field.name) for field in dataclasses.fields(op)})


@every_op
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_route_keeps_the_dtype(op: type[Op], case: OpExample, dtype: type[np.floating]) -> None:
    graph, leaves = build_op_graph(op, case)
    narrow = cast_floats(leaves, dtype)
    by_hand = analytic.differentiate_analytically(graph, narrow)
    by_torch = autograd.differentiate_by_torch(graph, narrow)
    floats = [name for name in graph.shapes if name not in graph.leaf_kinds]
    assert {by_hand.values[name].dtype for name in floats} == {np.dtype(dtype)}
    assert {array.dtype for array in by_hand.gradients.values()} == {np.dtype(dtype)}
    assert {array.dtype for array in by_torch.gradients.values()} == {np.dtype(dtype)}


@every_op
def test_float32_stays_within_its_rounding(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    narrow = cast_floats(leaves, np.float32)
    wide = cast_floats(narrow, np.float64)
    rounding = estimate_rounding_allowances(graph, wide, PRECISIONS["FP32"], seed=0)
    truth = analytic.differentiate_analytically(graph, wide).gradients
    for differentiate in (analytic.differentiate_analytically, autograd.differentiate_by_torch):
        for name, gradient in differentiate(graph, narrow).gradients.items():
            assert (np.abs(gradient - truth[name]) <= rounding[name]).all(), (differentiate.__name__, name)


@every_op
def test_non_contiguous_inputs_make_no_difference(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    strided = {name: np.repeat(leaf[..., None], 2, axis=-1)[..., 0] for name, leaf in leaves.items()}
    expected = analytic.differentiate_analytically(graph, leaves).gradients
    for name, gradient in analytic.differentiate_analytically(graph, strided).gradients.items():
        # Not bit for bit: a product of matrices may sum in another order.
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-12, atol=1e-14)


@every_op
def test_over_sixteen_decades_analytic_and_autograd_agree(op: type[Op], case: OpExample) -> None:
    """Inputs of size 1e-8 to 1e8: values (in the gradient of the goal) and gradients, within rounding."""
    for seed in range(4):
        graph, leaves = build_op_graph(op, case, seed)
        generator = np.random.default_rng([seed, 5])
        for name, leaf in leaves.items():
            if leaf.dtype.kind == "f" and name not in case.sign_slots:
                leaves[name] = leaf * 10 ** generator.uniform(-8, 8)
        with np.errstate(all="ignore"):
            by_hand = analytic.differentiate_analytically(graph, leaves).gradients
            by_torch = autograd.differentiate_by_torch(graph, leaves).gradients
            rounding = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], seed)
        for name, expected in by_torch.items():
            finite = np.isfinite(expected)
            np.testing.assert_array_equal(np.isfinite(by_hand[name]), finite)
            apart = np.abs(by_hand[name][finite] - expected[finite])
            assert (apart <= 2 * rounding[name][finite]).all(), (name, seed)


@every_op
def test_at_ties_and_kinks_the_conventions_are_those_of_pytorch(op: type[Op], case: OpExample) -> None:
    """Whole numbers meet each other, and the ends of pieces, again and again."""
    if case.low >= 0:
        return  # what is made for positive numbers has its poles at 0
    for seed in range(6):
        graph, leaves = build_op_graph(op, case, seed)
        for name in graph.listed_nodes[0].source_names:
            if leaves[name].dtype.kind == "f":
                leaves[name] = np.round(leaves[name])
        with np.errstate(all="ignore"):
            by_hand = analytic.differentiate_analytically(graph, leaves).gradients
        for name, expected in autograd.differentiate_by_torch(graph, leaves).gradients.items():
            np.testing.assert_allclose(by_hand[name], expected, rtol=1e-9, atol=1e-12, err_msg=name)


@every_op
@pytest.mark.parametrize("dtype", [DTYPES["float16"], DTYPES["bfloat16"]], ids=lambda dtype: dtype.name)
def test_half_precision_stays_within_its_rounding(op: type[Op], case: OpExample, dtype: ComputeDtype) -> None:
    graph, leaves = build_op_graph(op, case)
    narrow = {name: dtype.round_array(leaf) if leaf.dtype.kind == "f" else leaf for name, leaf in leaves.items()}
    wide = cast_floats(narrow, np.float64)
    with np.errstate(all="ignore"):
        truth = analytic.differentiate_analytically(graph, wide)
    if max(np.abs(array).max() for array in (*truth.values.values(), *truth.gradients.values())) > 1e4:
        return  # what overflows is another matter
    rounding = estimate_rounding_allowances(graph, wide, dtype.precision, seed=0)
    by_hand = analytic.differentiate_analytically(graph, narrow, dtype=dtype)
    by_torch = autograd.differentiate_by_torch(graph, narrow, dtype=dtype.name)
    for name in graph.public_names:
        for gradients in (by_hand.gradients, by_torch.gradients) if name not in graph.leaf_kinds else ():
            assert dtype.precision.is_representable(gradients[name].astype(np.float64)).all(), name
            assert (np.abs(gradients[name] - truth.gradients[name]) <= rounding[name]).all(), name


@every_op
@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(-3, 3))
def test_routes_agree_at_any_input_of_ordinary_size(op: type[Op], case: OpExample, seed: int, scale: float) -> None:
    graph, leaves = build_op_graph(op, case, seed)
    for name in graph.listed_nodes[0].source_names:
        if leaves[name].dtype.kind == "f" and name not in case.sign_slots and case.low < 0:
            leaves[name] = leaves[name] * 2.0**scale
    with np.errstate(all="ignore"):
        by_hand = analytic.differentiate_analytically(graph, leaves).gradients
        by_torch = autograd.differentiate_by_torch(graph, leaves).gradients
        rounding = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], seed=0)
    for name, expected in by_torch.items():
        finite = np.isfinite(expected)
        apart = np.abs(by_hand[name][finite] - expected[finite])
        assert (apart <= 2 * rounding[name][finite]).all(), name


def get_operands(graph: Graph, leaves: NamedArrays) -> list[Array | None]:
    return [None if operand is None else leaves[str(operand)] for operand in graph.nodes[0].operands]


def find_reached_range(
    op: Op, operands: list[Array | None], position: int, numbers: Array
) -> Iterator[tuple[Array, Array]]:
    """Least and greatest of one operand's numbers that reach each element of the output, and each term."""
    nothing = [
        None if operand is None or operand.dtype.kind != "f" else np.full_like(operand, np.inf) for operand in operands
    ]
    values = [*nothing[:position], np.concatenate([numbers, -numbers]), *nothing[position + 1 :]]
    reached = op.propagate_dependencies(values, *operands)
    for array in (reached, op.propagate_to_terms(reached, values, *operands)):
        low, high = np.broadcast_to(array, (2, *array.shape[1:]))
        yield low, -high


def find_wrong_dependencies(op: Op, operands: list[Array | None], generator: np.random.Generator) -> list[str]:
    """Elements that change something which, by the numbers that reach it, they do not reach."""
    output = op.forward(*operands)
    before = (output[0], op.split_terms(output, *operands)[0])
    lies: list[str] = []
    for position, operand in enumerate(operands):
        if operand is None or operand.dtype.kind != "f":
            continue
        numbers = generator.integers(0, 4 + 2 * operand.size, operand.shape).astype(np.float64)
        ends = list(find_reached_range(op, operands, position, numbers))
        assert [low.shape for low, _ in ends] == [array.shape for array in before]
        for element in range(min(operand.size, 40)):
            moved = operand.copy()
            moved.flat[element] += 0.37
            given = [*operands[:position], moved, *operands[position + 1 :]]
            after = op.forward(*given)
            changes = (after[0] != before[0], op.split_terms(after, *given)[0] != before[1])
            for changed, (low, high) in zip(changes, ends, strict=True):
                if (changed & ((numbers.flat[element] < low) | (numbers.flat[element] > high))).any():
                    lies.append(f"{position}[{element}]")
    return lies


@pytest.mark.covers_by_cases
@every_primitive
def test_unreached_elements_stay_bit_for_bit(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    operands = get_operands(graph, leaves)
    for seed in range(2):
        with np.errstate(all="ignore"):
            assert find_wrong_dependencies(graph.nodes[0].op, operands, np.random.default_rng(seed)) == []


@pytest.mark.covers_by_cases
@every_primitive
def test_missing_dependency_is_caught(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    operands = get_operands(graph, leaves)

    def lose_all_dependencies(self: Op, values: Any, *inputs: Any) -> Array:
        return np.full_like(type(node.op).propagate_dependencies(node.op, values, *inputs), np.inf)

    liar = type("Liar", (type(node.op),), {"propagate_dependencies": lose_all_dependencies})
    lying = liar(**{field.name: getattr(node.op, field.name) for field in dataclasses.fields(node.op)})
    with np.errstate(all="ignore"):
        constant = op.name in ("softmax", "log_softmax") and graph.shapes["output"] == ()
        assert bool(find_wrong_dependencies(lying, operands, np.random.default_rng(0))) is not constant


def measure_move_rounding(op: Op, operands: list[Array | None], position: int) -> float:
    """How far the move of the output is from twice its move by half of it, as a part of the output: rounding alone."""
    operand = operands[position]
    assert operand is not None
    along = operand * np.random.default_rng(0).uniform(-1, 1, operand.shape).astype(np.longdouble)
    before = op.forward(*operands)
    moves = [
        op.forward(*operands[:position], operand + along * 2.0**-size, *operands[position + 1 :]) - before
        for size in (40, 41)
    ]
    return float(np.abs(moves[0] - 2 * moves[1]).max() / max(1, np.abs(before).max()))


@every_primitive
def test_extended_precision_goes_through_where_an_op_says_so(op: type[Op], case: OpExample) -> None:
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    if not node.op.supports_extended_precision:
        return
    operands = [
        operand.astype(np.longdouble) if operand is not None and operand.dtype.kind == "f" else operand
        for operand in get_operands(graph, leaves)
    ]
    held = node.hold_branch(tuple(operands))
    with np.errstate(all="ignore"):
        assert held.forward(*operands).dtype == np.longdouble
        for position, operand in enumerate(operands):
            if (
                operand is not None
                and operand.dtype.kind == "f"
                and node.operand_slots[position].name not in case.sign_slots
            ):
                assert measure_move_rounding(node.op, operands, position) < 2.0**-58


def test_an_op_that_rounds_to_float64_inside_is_caught() -> None:
    op = OP_REGISTRY["tanh"]
    rounded = type("Rounded", (op,), {"forward": lambda self, x: np.tanh(x.astype(np.float64)).astype(x.dtype)})
    assert measure_move_rounding(rounded(), [np.array([[0.3, 0.7]], np.longdouble)], 0) > 2.0**-58


@every_primitive
def test_linear_response_is_the_change_of_the_output(op: type[Op], case: OpExample) -> None:
    """f(x + d) = f(x) + response(d), for several directions at once, wherever the op says that it is linear."""
    graph, leaves = build_op_graph(op, case)
    node, generator = graph.nodes[0], np.random.default_rng(0)
    operands = get_operands(graph, leaves)
    assert set(node.op.linear_in) <= {slot.name for slot in node.op.slots}
    for position, operand in enumerate(operands):
        if operand is None or node.op.get_slot(position).name not in node.op.linear_in:
            continue
        directions = generator.normal(size=(3, *operand.shape[1:]))
        response = node.op.compute_linear_response(position, directions, *operands)
        moved = node.op.forward(*operands[:position], operand + directions, *operands[position + 1 :])
        np.testing.assert_allclose(moved, node.op.forward(*operands) + response, rtol=1e-12, atol=1e-13)


def test_a_response_that_is_not_linear_is_caught() -> None:
    op = OP_REGISTRY["tanh"]
    curved = type("Curved", (op,), {"linear_in": {"input": ()}, "name": "tanh"})
    with pytest.raises(AssertionError):
        test_linear_response_is_the_change_of_the_output(curved, OpExample(((3, 4),)))


def differentiate_by_complex_step(graph: Graph, leaves: NamedArrays, name: str, step: float = 1e-20) -> Array:
    """Im f(x + i h e) / h for each element, all behind one tile axis."""
    point = leaves[name]
    moves = np.eye(point.size).reshape(-1, *point.shape[1:])
    loss = graph.forward_downstream(graph.forward(leaves), {name: point + 1j * step * moves})[graph.loss_name]
    return loss.reshape(point.size, -1).imag.reshape(point.shape[1:]) / step


ANALYTIC = [case for case in EVERY if case.values[0].supports_complex_step]


@pytest.mark.covers_by_cases
@pytest.mark.parametrize(("op", "case"), ANALYTIC)
def test_the_complex_step_is_the_derivative_to_the_last_digits(op: type[Op], case: OpExample) -> None:
    """Where an op says that it is analytic; a cast that drops an imaginary part is a warning, and so an error."""
    assert op.supports_complex_step
    for seed in range(3):
        graph, leaves = build_op_graph(op, case, seed)
        by_hand = analytic.differentiate_analytically(graph, leaves).gradients
        rounding = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], seed)
        for name in set(leaves) - graph.leaf_kinds.keys():
            apart = np.abs(differentiate_by_complex_step(graph, leaves, name) - by_hand[name])
            # What cancels in the backward pass itself is good to its rounding, and no better.
            assert (apart <= np.maximum(1e-14 * np.abs(by_hand[name]).max(), rounding[name])).all(), name


WITHOUT_COMPLEX_STEP = {"binary_cross_entropy"}
"""Ops of one piece whose forward pass takes no complex numbers."""


@pytest.mark.parametrize("op", PRIMITIVE_OPS.values(), ids=PRIMITIVE_OPS)
def test_an_op_is_either_of_pieces_or_says_that_it_is_analytic(op: type[Op]) -> None:
    has_one_piece = not has_pieces(op)
    assert op.supports_complex_step is (has_one_piece and op.name not in WITHOUT_COMPLEX_STEP)


def has_pieces(op: type[Op]) -> bool:
    """Return whether an op has pieces in its examples."""
    for case in op.examples:
        graph, leaves = build_op_graph(op, case)
        if graph.select_branches(graph.forward(leaves)):
            return True
    return False


def test_an_op_that_is_not_analytic_though_it_says_so_is_caught() -> None:
    """A modulus is no continuation of abs: it takes complex numbers, and loses the derivative."""
    liar = type("Modulus", (OP_REGISTRY["exp"],), {"forward": lambda self, input: np.exp(np.abs(input))})
    with pytest.raises(AssertionError):
        test_the_complex_step_is_the_derivative_to_the_last_digits(liar, OpExample(((3, 4),), low=0.1))


def find_rough_leaves(op: type[Op], case: OpExample) -> list[str]:
    """Leaves without a tight difference at an element that is 0, or near it, where PyTorch has a derivative."""
    graph, leaves = build_op_graph(op, case)
    names = [name for name in leaves if name != "goal" and name not in graph.leaf_kinds]
    for name in names:
        leaves[name].reshape(-1)[:2] = [0, 1e-3][: leaves[name].size]
    expected = autograd.differentiate_by_torch(graph, leaves).gradients
    differences = finite_difference.differentiate_numerically(graph, leaves, names)
    return [
        name
        for name in names
        if np.isfinite(expected[name]).all()
        and not (differences[name].error_bound <= 1e-9 * max(np.abs(expected[name]).max(), 1e-3)).all()
    ]


@pytest.mark.parametrize("op", OPS_WITH_EXAMPLES.values(), ids=OPS_WITH_EXAMPLES)
def test_an_op_of_one_piece_is_smooth_at_0(op: type[Op]) -> None:
    case = op.examples[0]
    assert has_pieces(op) or case.low >= 0 or find_rough_leaves(op, case) == []


def test_an_op_that_bends_without_pieces_is_caught() -> None:
    """The slope of x / (1 + abs(x)) bends at 0, though it does not jump."""
    bent = type(
        "Softsign",
        (OP_REGISTRY["tanh"],),
        {
            "forward": lambda self, input: input / (1 + np.abs(input)),
            "torch_forward": lambda self, torch, input: torch.nn.functional.softsign(input),
        },
    )
    assert not has_pieces(bent)
    assert find_rough_leaves(bent, OpExample(((3, 4),))) == ["input"]


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_agree(seed: int) -> None:
    graph, leaves = draw_graph(seed)
    assert 10 <= len(graph.nodes) <= 60
    by_hand = analytic.differentiate_analytically(graph, leaves).gradients
    by_torch = autograd.differentiate_by_torch(graph, leaves).gradients
    for name, expected in by_torch.items():
        assert np.linalg.norm(by_hand[name] - expected) <= 1e-12 * np.linalg.norm(expected), name


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_agree_with_the_difference(seed: int) -> None:
    graph, leaves = draw_graph(seed)
    names = ["x", "w", graph.nodes[3].name]
    by_hand = analytic.differentiate_analytically(graph, leaves).gradients
    rounding = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], seed=0, names=names)
    for name, difference in finite_difference.differentiate_numerically(graph, leaves, names).items():
        assert (np.abs(by_hand[name] - difference.value) <= difference.error_bound + rounding[name]).all(), name
        assert np.median(difference.error_bound) <= 1e-7 * max(np.abs(difference.value).max(), 1e-3), name


LOOP: list[Callable[[type[Op], OpExample], None]] = [
    test_the_three_routes_agree,
    test_bound_of_the_difference_is_tight,
    test_forward_agrees_with_the_shape_rule_and_with_pytorch,
    test_one_gradient_serves_the_tiles_of_the_inputs,
    test_rounding_has_the_shapes_of_its_arrays,
    test_errors_are_added_to_what_the_op_computes,
    test_float32_stays_within_its_rounding,
    test_non_contiguous_inputs_make_no_difference,
    test_over_sixteen_decades_analytic_and_autograd_agree,
    test_at_ties_and_kinks_the_conventions_are_those_of_pytorch,
    test_unreached_elements_stay_bit_for_bit,
    test_missing_dependency_is_caught,
    test_linear_response_is_the_change_of_the_output,
    test_the_complex_step_is_the_derivative_to_the_last_digits,
]


@pytest.fixture
def square() -> Iterator[type[Op]]:
    """An op that is declared here, and nowhere else."""

    @declare("square_of_this_test")
    class Square(Op):
        """y = x^2: dL/dx = 2 g x."""

        inputs = ("input",)
        supports_complex_step = True
        examples = (OpExample(((3, 4),)), OpExample(((),)))

        def infer_output_shape(self, input: Shape) -> Shape:
            return input

        def forward(self, input: Array) -> Array:
            return input * input

        def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
            return (2 * gradient * input,)

        def torch_forward(self, torch: Any, input: Any) -> Any:
            return torch.square(input)

    yield Square
    del OP_REGISTRY["square_of_this_test"]


def test_an_op_is_added_in_one_place(square: type[Op]) -> None:
    """The whole loop runs on an op declared in this test; no other file knows of it."""
    for case in square.examples:
        for check in LOOP:
            check(square, case)
        for error in PLANTED:
            test_a_wrong_backward_is_caught(square, case, error)
        for moved in (0, -1):
            test_tiles_are_evaluations_side_by_side(square, case, moved)


def test_every_op_states_its_derivation() -> None:
    for op in OP_REGISTRY.values():
        has_gradient = op.output_kind == "float"
        assert ("dL/d" if has_gradient else "no gradient") in (op.__doc__ or ""), op.name
        assert op.examples or not has_gradient or issubclass(op, SeveralOutputsOp), op.name
