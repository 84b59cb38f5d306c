from collections.abc import Iterator

import numpy as np
import pytest

from service.numerics.gradients.finite_difference.colouring import coloured
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method, Start, central
from service.numerics.gradients.finite_difference.noise import NoiseMeter, swept
from service.numerics.gradients.finite_difference.probe import Probe
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Graph, Node
from service.numerics.ops import REGISTRY
from tests.problems import reference_model


@pytest.fixture(autouse=True)
def _as_in_the_engine() -> Iterator[None]:
    """Steps may leave the domain."""
    with np.errstate(all="ignore"):
        yield


def probe(graph: Graph, leaves: dict[str, np.ndarray], name: str, method: Method = ADAPTIVE) -> Probe:
    generator = np.random.default_rng(0)
    point, sweeps = swept(graph, leaves, generator)
    suffix = Suffix(point, name)
    return Probe(suffix, coloured(suffix), method, NoiseMeter(point, sweeps, generator), generator)


def logarithms(point: list[float]) -> tuple[Graph, dict[str, np.ndarray]]:
    nodes = [Node("l", REGISTRY["log"](), ("x",)), Node("loss", REGISTRY["sum"](), ("l",))]
    return Graph(nodes, {"x": (len(point),)}), {"x": np.array([point])}


def test_a_table_of_steps_halves_and_begins_at_a_fraction_of_the_stride() -> None:
    found = probe(*reference_model(), "w1")
    steps = found.steps(Start(2.0**-4))
    assert steps.tolist() == [found.stride(False) * 2.0**-k for k in range(4, 4 + ADAPTIVE.levels)]
    given = probe(*reference_model(), "w1", central(0.1))
    assert given.steps(Start(1.0)).tolist() == [0.1, 0.05, 0.025]


def test_quotients_of_a_block_are_zero_outside_it() -> None:
    graph, leaves = reference_model((6, 6), (2, 2))
    found = probe(graph, leaves, "x")
    rung = found.rung(Start(2.0**-4))
    colours = np.array([1])
    some = rung.quotients(colours)
    own = np.flatnonzero(np.isin(found.colouring.of_elements, colours))
    others = np.setdiff1d(np.arange(36), own)
    assert (some.values[:, own] != 0).any()
    assert (some.values[:, others] == 0).all()
    np.testing.assert_array_equal(some.values[:, own], rung.quotients(np.arange(4)).values[:, own])


def test_each_element_moves_by_a_part_of_its_own_size() -> None:
    found = probe(*logarithms([1e-30, 3.0, 1e20]), "x")
    rung = found.rung(Start(2.0**-4, own=True))
    fractions = rung.first_steps / np.array([1e-30, 3.0, 1e20])
    assert fractions.max() <= 2.0**-4
    assert fractions.max() <= 2 * fractions.min()
    quotients = rung.quotients(np.arange(found.colouring.count))
    values, bounds = ADAPTIVE.reduce(quotients.values, quotients.floors)
    truth = 1 / np.array([1e-30, 3.0, 1e20])
    assert (np.abs(values - truth) <= bounds).all()
    assert (bounds <= 1e-6 * truth).all()


def test_where_no_step_is_calm_nothing_is_claimed() -> None:
    """One step for 1e-30 and for 1e20: it leaves the domain of the one, or is lost in the other."""
    found = probe(*logarithms([1e-30, 3.0, 1e20]), "x")
    quotients = found.rung(Start(2.0**-4)).quotients(np.arange(found.colouring.count))
    assert np.isnan(quotients.values).all()


@pytest.mark.parametrize(("step", "lost"), [(2.0**-30, False), (2.0**-60, True)])
def test_a_step_that_the_point_does_not_resolve_gives_nothing(step: float, lost: bool) -> None:
    found = probe(*logarithms([3.0]), "x", central(step))
    assert np.isnan(found.rung(Start(1.0)).quotients(np.array([0])).values).any() == lost
