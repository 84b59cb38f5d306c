import math

import numpy as np
import pytest

from service.numerics.gradients.finite_difference import LinePoint
from service.numerics.gradients.finite_difference.adjoint_noise import estimate_adjoint_noise
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.moved_model import add_direction_inputs
from service.numerics.gradients.finite_difference.noise_meter import evaluate_with_sweeps
from service.numerics.gradients.finite_difference.repeat_rounding import RepeatRounding
from service.numerics.model.graph import Graph, Node
from service.numerics.model.monte_carlo import ROUNDING_SWEEPS
from service.numerics.model.rounding import SAFETY_FACTOR
from service.numerics.ops import OP_REGISTRY
from tests import problem_families

STEP = 2.0**-10
REPEATS = 24


class MovedLine:
    """A problem moved along one random direction of all its tensors, by STEP."""

    def __init__(self, graph, leaves, names, seed=0):
        generator = np.random.default_rng(seed)
        directions = {name: generator.normal(size=(1, *graph.shapes[name])) for name in names}
        units = {name: 2.0 ** math.floor(math.log2(np.sqrt(np.square(leaves[name]).mean()) or 1.0)) for name in names}
        model = add_direction_inputs(graph, directions, units, "moves")
        move_name = next(iter(model.move_names.values()))
        self.generator = np.random.default_rng([seed, 1])
        point, self.sweeps = evaluate_with_sweeps(model.graph, {**leaves, move_name: np.zeros((1, 1))}, self.generator)
        self.downstream = DownstreamGraph(point, move_name)
        self.base_gradients = point.graph.backward(point.values)
        responses = self.downstream.compute_linear_responses(np.ones((1, 1)))
        values = self.downstream.evaluate_terms_on_line(responses, np.array([STEP]))[2]
        self.moved = LinePoint(values, point.graph.backward(values))

    def estimate_noise(self):
        return estimate_adjoint_noise(self.downstream, self.moved, self.base_gradients, self.generator)

    def measure_noise(self):
        """Noise of the sum of all terms, by many sweeps of the rounding model."""
        squares = [np.square(self._draw_errors(STEP) - self._draw_errors(-STEP)).mean() for _ in range(REPEATS)]
        return SAFETY_FACTOR * float(np.sqrt(np.mean(squares)))

    def _draw_errors(self, move):
        observer = RepeatRounding(self.generator, 1)
        moved = {self.downstream.name: np.full((ROUNDING_SWEEPS + 1, 1), move)}
        terms = self.downstream.evaluate_remaining(moved, self.sweeps, observer=observer)
        return observer.spread_scale * (terms[1:] - terms[:1]).sum(axis=-1)


CELLS = [
    cell for cell in problem_families.CELLS if cell[0] != "random" and cell[1] in ("ordinary", "weights", "fitted")
]


@pytest.mark.trial
@pytest.mark.parametrize(("family", "variant"), CELLS, ids=[f"{family}, {variant}" for family, variant in CELLS])
def test_adjoint_noise_is_that_of_the_sweeps(family, variant):
    """As large as the root mean square of hundreds of sweeps, or more where it takes repeated numbers as alike."""
    for seed in range(2):
        problem = problem_families.draw_problem(family, variant, seed)
        line = MovedLine(problem.graph, problem.leaves, problem.names, seed)
        ratio = line.estimate_noise() / line.measure_noise()
        assert 0.5 < ratio < 4, (str(problem), ratio)


def make_line(nodes, names, **leaves):
    listed = [Node(name, OP_REGISTRY[op](**attributes), operands) for name, op, operands, attributes in nodes]
    tiles = {name: np.asarray(leaf, np.float64)[None] for name, leaf in leaves.items()}
    return MovedLine(Graph(listed, {name: leaf.shape[1:] for name, leaf in tiles.items()}), tiles, names)


def test_at_a_fitted_point_the_noise_is_that_of_the_ends():
    """The residual is 0 at the point, and so is every gradient there."""
    x = np.linspace(0.1, 1, 10)
    nodes = [("z", "sin", ("w",), {}), ("loss", "mse_loss", ("z", "y"), {})]
    line = make_line(nodes, ["w"], w=x, y=np.sin(x))
    assert not line.base_gradients["w moved"].any()
    assert 0.5 < line.estimate_noise() / line.measure_noise() < 2


def test_numbers_that_repeat_are_off_alike():
    """One number, spread over a thousand places: its errors add up, and do not average out."""
    nodes = [
        ("s", "sin", ("w",), {}),
        ("many", "expand", ("s",), {"size": [1000]}),
        ("y", "exp", ("many",), {}),
        ("loss", "sum", ("y",), {}),
    ]
    alike = make_line(nodes, ["w"], w=[0.7]).estimate_noise()
    apart = make_line(
        [("y", "exp", ("w",), {}), nodes[3]], ["w"], w=np.sin(np.linspace(0.6, 0.8, 1000))
    ).estimate_noise()
    assert alike > 10 * apart


def test_a_node_that_does_not_move_counts_with_the_change_of_its_gradient():
    """The loss is linear in what does not move: the gradient by it changes with the move alone."""
    nodes = [("a", "exp", ("x",), {}), ("y", "mul", ("a", "w"), {}), ("loss", "sum", ("y",), {})]
    line = make_line(nodes, ["w"], x=[30.0], w=[1.0])
    assert 0.3 < line.estimate_noise() / line.measure_noise() < 3


def test_without_its_rounding_a_model_has_no_noise():
    """A negative control: moves and sums of the loss do not round here, and nothing else does."""
    line = make_line([("y", "neg", ("w",), {}), ("loss", "sum", ("y",), {})], ["w"], w=[1.0, 2.0])
    noisy = make_line([("y", "exp", ("w",), {}), ("loss", "sum", ("y",), {})], ["w"], w=[1.0, 2.0])
    assert line.estimate_noise() < noisy.estimate_noise()
