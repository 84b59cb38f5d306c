from collections.abc import Iterator

import numpy as np
import pytest

from service.numerics.gradients.finite_difference.colouring import colour_elements
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.method import (
    ADAPTIVE_METHOD,
    DifferenceMethod,
    StepLevel,
    make_central_method,
)
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter, evaluate_with_sweeps
from service.numerics.gradients.finite_difference.probe import DifferenceProbe
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model


@pytest.fixture(autouse=True)
def _ignored_arithmetic() -> Iterator[None]:
    """Steps may leave the domain."""
    with np.errstate(all="ignore"):
        yield


def make_probe(
    graph: Graph, leaves: dict[str, np.ndarray], name: str, method: DifferenceMethod = ADAPTIVE_METHOD
) -> DifferenceProbe:
    generator = np.random.default_rng(0)
    point, sweeps = evaluate_with_sweeps(graph, leaves, generator)
    suffix = DownstreamGraph(point, name)
    return DifferenceProbe(suffix, colour_elements(suffix), method, NoiseMeter(point, sweeps, generator), generator)


def make_logarithms(point: list[float]) -> tuple[Graph, dict[str, np.ndarray]]:
    nodes = [Node("l", OP_REGISTRY["log"](), ("x",)), Node("loss", OP_REGISTRY["sum"](), ("l",))]
    return Graph(nodes, {"x": (len(point),)}), {"x": np.array([point])}


def test_a_table_of_steps_halves_and_begins_at_a_fraction_of_the_stride() -> None:
    probe = make_probe(*build_reference_model(), "w1")
    steps = probe.get_steps(StepLevel(2.0**-4))
    assert steps.tolist() == [probe.get_single_reach(False) * 2.0**-k for k in range(4, 4 + ADAPTIVE_METHOD.step_count)]
    given = make_probe(*build_reference_model(), "w1", make_central_method(0.1))
    assert given.get_steps(StepLevel(1.0)).tolist() == [0.1, 0.05, 0.025]


def test_quotients_of_a_block_are_zero_outside_it() -> None:
    graph, leaves = build_reference_model((6, 6), (2, 2))
    probe = make_probe(graph, leaves, "x")
    rung = probe.make_step_table(StepLevel(2.0**-4))
    colours = np.array([1])
    some = rung.compute_quotients(colours)
    own = np.flatnonzero(np.isin(probe.colouring.element_colours, colours))
    others = np.setdiff1d(np.arange(36), own)
    assert (some.values[:, own] != 0).any()
    assert (some.values[:, others] == 0).all()
    np.testing.assert_array_equal(some.values[:, own], rung.compute_quotients(np.arange(4)).values[:, own])


def test_blocks_together_are_the_quotients_of_all_colours() -> None:
    """Bit for bit, also where no term feels an element, and where a step is lost."""
    graph, leaves = build_reference_model((6, 6), (2, 2))
    logarithms = make_logarithms([1e-30, 3.0, 1e20])
    for probe in (make_probe(graph, leaves, "x"), make_probe(*logarithms, "x")):
        for level in (StepLevel(2.0**-4), StepLevel(2.0**-4, scales_by_element=True)):
            table = probe.make_step_table(level)
            colours = np.arange(probe.colouring.colour_count)
            blocks = table.make_unmoved_quotients()
            for block in (colours[parity::2] for parity in range(min(2, len(colours)))):
                blocks.fill_columns(table.compute_columns(block))
            whole = table.compute_quotients(colours)
            for name in ("values", "noise", "rounding_error"):
                assert getattr(blocks, name).tobytes() == getattr(whole, name).tobytes()


def test_each_element_moves_by_a_part_of_its_own_size() -> None:
    probe = make_probe(*make_logarithms([1e-30, 3.0, 1e20]), "x")
    rung = probe.make_step_table(StepLevel(2.0**-4, scales_by_element=True))
    fractions = rung.first_steps / np.array([1e-30, 3.0, 1e20])
    assert fractions.max() <= 2.0**-4
    assert fractions.max() <= 2 * fractions.min()
    quotients = rung.compute_quotients(np.arange(probe.colouring.colour_count))
    values, bounds = ADAPTIVE_METHOD.reduce_table(quotients.values, quotients.noise_floors)
    truth = 1 / np.array([1e-30, 3.0, 1e20])
    assert (np.abs(values - truth) <= bounds).all()
    assert (bounds <= 1e-6 * truth).all()


def test_quotients_are_nan_without_a_usable_step() -> None:
    """One step for 1e-30 and for 1e20: it leaves the domain of the one, or is lost in the other."""
    probe = make_probe(*make_logarithms([1e-30, 3.0, 1e20]), "x")
    quotients = probe.make_step_table(StepLevel(2.0**-4)).compute_quotients(np.arange(probe.colouring.colour_count))
    assert np.isnan(quotients.values).all()


@pytest.mark.parametrize(("step", "lost"), [(2.0**-30, False), (2.0**-60, True)])
def test_a_step_that_the_point_does_not_resolve_gives_nothing(step: float, lost: bool) -> None:
    probe = make_probe(*make_logarithms([3.0]), "x", make_central_method(step))
    assert np.isnan(probe.make_step_table(StepLevel(1.0)).compute_quotients(np.array([0])).values).any() == lost
