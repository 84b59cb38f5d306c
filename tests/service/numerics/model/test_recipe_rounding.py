"""Rounding errors of a recipe: what casts do to values, and the allowances that follow."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.core.recipe import EAGER_RECIPES, Recipe, make_uniform_recipe
from service.numerics.model.graph import Graph, Node
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS
from service.numerics.model.recipe_rounding import RecipeRounding
from service.numerics.model.rounding import estimate_recipe_allowances, estimate_rounding_allowances
from service.numerics.ops.op import OP_REGISTRY

BF16, FP32, TF32 = PRECISIONS["BF16"], PRECISIONS["FP32"], PRECISIONS["TF32"]
SIZE = 7


def make_graph(*, second: str = "sum") -> Graph:
    """Build loss = sum(exp(w x) k), with the node h = exp(p)."""
    nodes = [
        Node("p", OP_REGISTRY["mul"](), ("w", "x")),
        Node("h", OP_REGISTRY["exp"](), ("p",)),
        Node("t", OP_REGISTRY["mul"](), ("h", "k")),
        Node("loss", OP_REGISTRY[second](), ("t",)),
    ]
    return Graph(nodes, {"w": (SIZE,), "x": (SIZE,), "k": (SIZE,)})


def draw_leaves(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: BF16.round_to_nearest(generator.normal(size=(1, SIZE))) for name in ("w", "x", "k")}


def make_rounding(seed: int = 0, recipe: Recipe | None = None) -> RecipeRounding:
    return RecipeRounding(recipe or EAGER_RECIPES["BF16"], make_graph(), np.random.default_rng(seed))


def make_recipe(**places: object) -> Recipe:
    fields = {"judged": BF16, "accumulate": FP32, "output": FP32} | places
    return Recipe(**fields)  # type: ignore[arg-type]


def test_a_cast_is_off_by_the_unit_roundoff_at_most() -> None:
    numbers = np.random.default_rng(1).normal(size=(1, 2000)) * np.exp(np.random.default_rng(2).uniform(-60, 60, 2000))
    rounded = make_rounding().cast_array("value h", numbers, BF16)
    errors = np.abs(rounded[1:] / numbers - 1)
    assert rounded.shape == (ROUNDING_SWEEPS + 1, 2000)
    assert (rounded[0] == numbers[0]).all()
    assert errors.max() <= (1 + 1 / 8) * BF16.unit_roundoff
    assert errors.max() >= 0.99 * BF16.unit_roundoff
    assert errors.mean() == pytest.approx(BF16.unit_roundoff / 2, rel=0.05)


def test_equal_numbers_round_alike_and_others_do_not() -> None:
    numbers = np.array([[1 / 3, 1 / 3, -1 / 3, 1 / 7, 1 / 3 + 1e-9]])
    rounded = make_rounding().cast_array("value h", numbers, BF16)
    assert (rounded[:, 0] == rounded[:, 1]).all()
    assert (rounded[:, 0] == -rounded[:, 2]).all()
    assert rounded[:, 4] == pytest.approx(rounded[:, 0], rel=1e-8)
    assert (rounded[1:, 3] * 7 != rounded[1:, 0] * 3).all()


def test_numbers_that_round_to_one_lose_their_difference() -> None:
    numbers = np.array([[0.124983496, 0.124984194]])
    rounded = make_rounding().cast_array("value h", numbers, TF32)
    np.testing.assert_allclose(rounded[1:, 0], rounded[1:, 1], rtol=1e-8)
    assert (rounded[0] == numbers[0]).all()
    assert np.ptp(numbers) > 5e-6 * numbers[0, 0]


def test_a_place_rounds_as_before_and_other_places_and_seeds_otherwise() -> None:
    numbers = np.random.default_rng(1).normal(size=(1, 50))
    rounding = make_rounding()
    first = rounding.cast_array("value h", numbers, BF16)
    assert (rounding.cast_array("value h", numbers, BF16) == first).all()
    assert (rounding.cast_array("value p", numbers, BF16)[1:] != first[1:]).all()
    assert (make_rounding(seed=1).cast_array("value h", numbers, BF16)[1:] != first[1:]).all()


def test_numbers_of_the_arithmetic_stay_unless_they_have_moved() -> None:
    numbers = BF16.round_to_nearest(np.random.default_rng(1).normal(size=(1, 50)))
    rounding = make_rounding()
    assert rounding.cast_array("value h", numbers, BF16) is numbers
    moved = np.repeat(numbers, ROUNDING_SWEEPS + 1, axis=0)
    moved[3, 7] += 1e-9
    rounded = rounding.cast_array("value h", moved, BF16)
    assert (rounded[1:, 7] != moved[1:, 7]).all()
    assert (np.delete(rounded, 7, axis=1) == np.delete(moved, 7, axis=1)).all()


def test_a_cast_beyond_the_largest_number_is_infinite() -> None:
    rounded = make_rounding().cast_array("value h", np.array([[1e5, -1e5, 3.3, np.inf]]), PRECISIONS["FP16"])
    assert (rounded[:, :2] == [np.inf, -np.inf]).all()
    assert np.isfinite(rounded[:, 2]).all()
    assert (rounded[:, 3] == np.inf).all()


def test_a_cast_below_the_smallest_normal_number_is_off_by_half_a_subnormal_one() -> None:
    half = PRECISIONS["FP16"]
    number = 1.3 * 2.0**half.min_exponent / 1000
    rounded = make_rounding().cast_array("value h", np.full((1, 1), number), half)
    assert 0 < np.abs(rounded[1:] - number).max() <= half.smallest_subnormal / 2


def test_a_uniform_recipe_allows_what_its_arithmetic_does() -> None:
    graph, leaves = make_graph(), draw_leaves()
    allowed = estimate_recipe_allowances(graph, leaves, make_uniform_recipe(FP32), 3, ["w"])["w"]
    assert (allowed.elements == estimate_rounding_allowances(graph, leaves, FP32, 3, ["w"])["w"]).all()
    assert allowed.scale == np.inf


def round_in_sweeps(recipe: Recipe, seed: int) -> np.ndarray:
    """Return a gradient of w as a program of the recipe may compute it, rounded to nearest where it casts."""
    leaves = draw_leaves()
    w, x, k = (leaves[name][0] for name in ("w", "x", "k"))

    def cast(name: str, values: np.ndarray) -> np.ndarray:
        precision = recipe.every_cast or recipe.casts.get(name)
        return values if precision is None else precision.round_to_nearest(values)

    noise = 1 + FP32.unit_roundoff * np.random.default_rng(seed).uniform(-1, 1, SIZE)
    h = cast("h", np.exp(cast("p", w * x) * noise))
    return recipe.output.round_to_nearest(cast("d:p", cast("d:h", k) * h) * x)


RECIPES = {
    "eager": EAGER_RECIPES["BF16"],
    "one value": make_recipe(casts={"h": BF16}),
    "one gradient": make_recipe(casts={"d:p": BF16}),
    "output alone": make_recipe(output=BF16),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_right_programs_are_within_their_allowance(recipe: Recipe) -> None:
    graph, leaves = make_graph(), draw_leaves()
    allowed = estimate_recipe_allowances(graph, leaves, recipe, 0, ["w"])["w"]
    right = graph.backward(graph.forward(leaves))["w"][0]
    for seed in range(20):
        wrong_by = round_in_sweeps(recipe, seed) - right
        assert (np.abs(wrong_by) <= allowed.elements).all()
        assert abs((wrong_by * right).sum() / (right**2).sum()) <= allowed.scale
    assert (allowed.elements <= 8 * 6 * BF16.unit_roundoff * np.abs(right)).all()


def test_a_program_that_rounds_at_another_place_is_not() -> None:
    graph, leaves = make_graph(), draw_leaves()
    right = graph.backward(graph.forward(leaves))["w"][0]
    allowed = estimate_recipe_allowances(graph, leaves, make_recipe(), 0, ["w"])["w"]
    for name in ("one value", "one gradient", "output alone"):
        wrong_by = round_in_sweeps(RECIPES[name], 0) - right
        assert (np.abs(wrong_by) > allowed.elements).any()


def test_factors_of_products_are_rounded_and_sums_are_not() -> None:
    nodes = [Node("y", OP_REGISTRY["matmul"](), ("a", "b")), Node("loss", OP_REGISTRY["sum"](), ("y",))]
    graph = Graph(nodes, {"a": (5, 6), "b": (6, 3)})
    generator = np.random.default_rng(0)
    leaves = {"a": generator.normal(size=(1, 5, 6)), "b": generator.normal(size=(1, 6, 3))}
    recipe = EAGER_RECIPES["TF32"]
    allowed = estimate_recipe_allowances(graph, leaves, recipe, 0, ["b"])["b"]
    right = leaves["a"][0].T @ np.ones((5, 3))
    rounded = TF32.round_to_nearest(leaves["a"][0]).T @ np.ones((5, 3))
    assert (np.abs(rounded - right) <= allowed.elements).all()
    assert (np.abs(rounded - right) > estimate_rounding_allowances(graph, leaves, FP32, 0, ["b"])["b"]).any()
    # Each of five factors is off by itself: far less than the sum of absolute values may be.
    assert (allowed.elements <= 8 * TF32.unit_roundoff * np.sqrt((leaves["a"][0] ** 2).sum(axis=0))[:, None]).all()


def test_a_sum_of_equal_casts_is_off_by_all_of_them() -> None:
    nodes = [
        Node("h", OP_REGISTRY["mul"](), ("w", "x")),
        Node("s", OP_REGISTRY["sum"](), ("h",)),
        Node("loss", OP_REGISTRY["mul"](), ("s", "s")),
    ]
    graph = Graph(nodes, {"w": (), "x": (100,)})
    leaves = {"w": np.full((1,), 1.0), "x": np.full((1, 100), BF16.round_number(1 / 3) * (1 + 2.0**-12))}
    recipe = make_recipe(casts={"h": BF16})
    allowed = estimate_recipe_allowances(graph, leaves, recipe, 0, ["w"])["w"]
    right = 2 * leaves["x"].sum() ** 2
    off = 2 * BF16.round_to_nearest(leaves["x"]).sum() * leaves["x"].sum() - right
    assert abs(off) <= allowed.elements
    half_spacing = float(BF16.compute_half_spacings(np.array(1 / 3)))
    assert allowed.elements >= 3 * half_spacing * 3 * right


def test_a_sum_of_casts_of_near_numbers_is_off_by_all_of_them() -> None:
    """100 numbers within half a spacing of bfloat16 round the same way, though no two of them are equal."""
    nodes = [
        Node("h", OP_REGISTRY["exp"](), ("x",)),
        Node("t", OP_REGISTRY["mul"](), ("h", "w")),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    graph = Graph(nodes, {"w": (), "x": (100,)})
    spacing = 2 * float(BF16.compute_half_spacings(np.array(1 / 3)))
    numbers = BF16.round_number(1 / 3) + spacing * np.linspace(0.02, 0.48, 100)
    leaves = {"w": np.full((1,), 1.0), "x": np.log(numbers)[None]}
    casts = make_recipe(casts={"h": BF16})
    off = abs(BF16.round_to_nearest(numbers).sum() - numbers.sum())
    assert off > 0.2 * spacing * 100
    assert off <= estimate_recipe_allowances(graph, leaves, casts, 0, ["w"])["w"].elements


@pytest.mark.parametrize("shifts_grids", [False, True])
def test_casts_of_a_declared_recipe_are_off_by_half_the_spacing(*, shifts_grids: bool) -> None:
    numbers = np.random.default_rng(1).normal(size=(1, 2000)) * np.exp(np.random.default_rng(2).uniform(-60, 60, 2000))
    recipe = make_recipe(casts={"h": BF16})
    rounding = RecipeRounding(recipe, make_graph(), np.random.default_rng(0), shifts_grids=shifts_grids)
    errors = np.abs(rounding.cast_array("value h", numbers, BF16)[1:] - numbers) / BF16.compute_half_spacings(numbers)
    assert errors.max() <= 1 + 1 / 4
    assert errors.max() >= 0.99
    assert np.square(errors).mean() == pytest.approx(1 / 3, rel=0.05)


def test_shifted_grids_keep_numbers_in_order() -> None:
    numbers = np.linspace(1.0001, 1.2, 500)[None]
    recipe = make_recipe(casts={"h": BF16})
    rounding = RecipeRounding(recipe, make_graph(), np.random.default_rng(0), shifts_grids=True)
    rounded = rounding.cast_array("value h", numbers, BF16)
    assert (np.diff(rounded[1:], axis=1) >= -1e-12).all()
    assert (np.diff(rounded[1:], axis=1) <= 2.0**-7 + 1e-12).all()


@pytest.mark.parametrize("count", [30, 768, 3000])
def test_equal_gradients_round_last_as_one(count: int) -> None:
    """The gradient of a mean is 1/n everywhere, and its rounding is a factor."""
    graph = Graph([Node("loss", OP_REGISTRY["mean"](), ("x",))], {"x": (count,)})
    leaves = {"x": np.random.default_rng(0).normal(size=(1, count))}
    scale = estimate_recipe_allowances(graph, leaves, make_recipe(output=BF16), 0, ["x"])["x"].scale
    factor = BF16.round_number(1 / count) * count
    assert abs(factor - 1) <= scale <= 1.1 * BF16.unit_roundoff


@pytest.mark.parametrize(("op", "shape"), [("layer_norm", (40, 6)), ("embedding", (200,))])
def test_sums_that_a_cpu_stores_are_within_their_allowance(op: str, shape: tuple[int, ...]) -> None:
    """PyTorch adds up the rows of these gradients in the dtype of the tensors."""
    generator = np.random.default_rng(1)
    upstream = BF16.round_to_nearest(generator.normal(size=(1, *shape, *(4,) * (op == "embedding"))))
    leaves = {"g": upstream}
    if op == "layer_norm":
        node = Node("y", OP_REGISTRY[op](normalized_shape=6), ("x", "w", "b"))
        leaves |= {"x": BF16.round_to_nearest(generator.normal(size=(1, *shape))), "w": np.ones((1, 6))}
        leaves["b"] = np.zeros((1, 6))
        name, terms = "b", upstream[0]
    else:
        node = Node("y", OP_REGISTRY[op](), ("i", "w"))
        leaves |= {"i": generator.integers(0, 3, size=(1, *shape)), "w": np.ones((1, 3, 4))}
        name, terms = "w", upstream[0]
    graph = Graph(
        [node, Node("t", OP_REGISTRY["mul"](), ("y", "g")), Node("loss", OP_REGISTRY["sum"](), ("t",))],
        {leaf: values.shape[1:] for leaf, values in leaves.items()},
        {"i": "index"} if op == "embedding" else {},
    )
    right = graph.backward(graph.forward(leaves))[name][0]
    stored = np.zeros(right.shape)
    for position, term in enumerate(terms):
        row = leaves["i"][0, position] if op == "embedding" else ...
        stored[row] = BF16.round_to_nearest(stored[row] + term)
    allowed = estimate_recipe_allowances(graph, leaves, EAGER_RECIPES["BF16"], 0, [name])[name].elements
    declared = estimate_recipe_allowances(graph, leaves, make_recipe(output=BF16), 0, [name])[name].elements
    assert (np.abs(stored - right) <= allowed).all()
    assert (np.abs(stored - right) > declared).any()
    assert (allowed <= 8 * BF16.unit_roundoff * np.sqrt(len(terms)) * np.abs(terms).sum(axis=0).max()).all()


@pytest.mark.parametrize("op", ["tanh", "sigmoid"])
def test_a_derivative_by_the_rounded_output_is_as_far_off_as_that_is(op: str) -> None:
    """tanh(4) = 0.9993 rounds to 1 in bfloat16, so that PyTorch's slope 1 - t^2 is 0."""
    graph = Graph([Node("t", OP_REGISTRY[op](), ("w",)), Node("loss", OP_REGISTRY["sum"](), ("t",))], {"w": (1,)})
    leaves = {"w": np.array([[4.0 if op == "tanh" else 8.0]])}
    right = graph.backward(graph.forward(leaves))["w"][0]
    allowed = estimate_recipe_allowances(graph, leaves, EAGER_RECIPES["BF16"], 0, ["w"])["w"].elements
    assert allowed >= right
    alone = estimate_recipe_allowances(graph, leaves, make_recipe(output=BF16), 0, ["w"])["w"].elements
    assert alone < right / 10


def test_terms_that_are_stored_round_one_by_one() -> None:
    """The gradient of a convolution's input is a sum over the kernel, of terms in the dtype of the tensors."""
    nodes = [
        Node("y", OP_REGISTRY["conv2d"](), ("x", "k")),
        Node("t", OP_REGISTRY["mul"](), ("y", "g")),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    graph = Graph(nodes, {"x": (6, 6), "k": (3, 3), "g": (4, 4)})
    generator = np.random.default_rng(0)
    leaves = {name: BF16.round_to_nearest(generator.normal(size=(1, *graph.shapes[name]))) for name in ("x", "k", "g")}
    right = graph.backward(graph.forward(leaves))["x"][0]
    total = np.zeros((6, 6))
    for i in range(3):
        for j in range(3):
            term = BF16.round_to_nearest(leaves["k"][0, i, j] * leaves["g"][0])
            total[i : i + 4, j : j + 4] = BF16.round_to_nearest(total[i : i + 4, j : j + 4] + term)
    allowed = estimate_recipe_allowances(graph, leaves, EAGER_RECIPES["BF16"], 0, ["x"])["x"].elements
    assert (np.abs(total - right) <= allowed).all()
    fused = make_recipe(output=BF16)
    assert (np.abs(total - right) > estimate_recipe_allowances(graph, leaves, fused, 0, ["x"])["x"].elements).any()


@pytest.mark.parametrize("seed", range(40))
def test_near_numbers_that_round_to_neighbours_are_within_their_allowance(seed: int) -> None:
    """Two numbers beside a midpoint, nearer than a hundredth of the spacing: few moved grids have it between them."""
    nodes = [
        Node("h", OP_REGISTRY["mul"](), ("u", "v")),
        Node("t", OP_REGISTRY["mul"](), ("h", "w")),
        Node("loss", OP_REGISTRY["sum"](), ("t",)),
    ]
    graph = Graph(nodes, {"u": (2,), "v": (), "w": ()})
    midpoint = 1.25 + BF16.unit_roundoff
    u = np.array([[midpoint - 2.0**-18, midpoint + 2.0**-18]])
    exact = float(u.sum() - 2 * u[0, 0])
    signs = np.array([[-1.0, 1.0]])
    rounded = float((signs * BF16.round_to_nearest(u)).sum())
    leaves = {"u": signs * u, "v": np.ones(1), "w": np.ones(1)}
    recipe = make_recipe(casts={"h": BF16})
    assert rounded - exact == pytest.approx(2 * BF16.unit_roundoff, rel=0.02)
    assert abs(rounded - exact) <= estimate_recipe_allowances(graph, leaves, recipe, seed, ["w"])["w"].elements
