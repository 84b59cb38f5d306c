"""Finite differences of the loss, with a bound for each element.

A plan says which tensors are moved and how the others follow (`plan.py`). Rung by rung, each of one first step and its
halvings, the quotients of all of them are had, extrapolated element by element, and kept where their bound is the
smallest yet; a further rung is for the elements whose bound could be narrower.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np

from service.numerics.gradients.finite_difference.difference import Difference, Status
from service.numerics.gradients.finite_difference.inline import Inline
from service.numerics.gradients.finite_difference.kinks import ambiguous
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method, Start
from service.numerics.gradients.finite_difference.noise import NoiseMeter, swept
from service.numerics.gradients.finite_difference.plan import Moving, Plan, Route, planned
from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.probe import EXTENDED_ROUNDOFF, Probe, Rung, Side
from service.numerics.gradients.finite_difference.quotients import Quotients, exactly, total
from service.numerics.graph import Graph
from service.numerics.kept import kept
from service.numerics.tiles import Array

_TIGHT = 2.0**-33
"""Bound, as a part of the largest element, below which no further rung is tried."""
_DECIDED, _NEGLIGIBLE = 1e-5, 1e-6
"""Bound, as a part of the element or of this part of the largest, below which no verdict asks for less."""
_WORTH_IT = 1e-18
"""Unit roundoff of an extended precision that is one."""
_MOST_EXTENDED_WORK = 2**25
"""Multiply-adds of a rung in extended precision, which has no library of its own for products of matrices."""


class Progress(Protocol):
    """Is told between tiles how far the engine is, and may raise to stop it."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of `done` of `total` evaluations of the loss, the last of them for the tensor or node `name`."""
        ...


def differentiate(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: Method = ADAPTIVE,
    seed: int = 0,
    progress: Progress | None = None,
    elements: Mapping[str, Array] | None = None,
    executor: Executor | None = None,
    plan: Plan | None = None,
) -> dict[str, Difference]:
    """Difference the loss with respect to each of the names.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        Tensors, weights or nodes.
    method
        How.
    seed
        All that is random follows from it.
    progress
        Called between tiles.
    elements
        Flat indices of the elements that are asked for, by name; all of a name that is not in it.
    executor
        Where blocks of evaluations run, which are independent of one another; here, one after the other, by default.
    plan
        Of the same names of the same graph, where it has been made already; method and elements are its own.
    """
    plan = plan or planned(graph, leaves, names, method, elements)
    # Steps may leave the domain of the loss; what is not finite there is looked for in the results.
    with np.errstate(all="ignore"):
        return _Engine(graph, leaves, plan, seed, progress, executor or Inline()).differences()


class _Engine:
    """The differences of one plan at one point."""

    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[str, Array],
        plan: Plan,
        seed: int,
        progress: Progress | None,
        executor: Executor,
    ) -> None:
        self._plan = plan
        self._generator = np.random.default_rng([seed, 0xFD])
        # On the pieces of the point, so that no step has to be smaller than the way to the next kink.
        self._point, sweeps = swept(graph, leaves, self._generator)
        self._meter = NoiseMeter(self._point, sweeps, self._generator)
        base = self._point.values
        self._open = ambiguous(graph, base, sweeps, self._meter.scale, self._generator)
        self._progress = progress
        self._executor = executor
        self._probes: dict[Moving, Probe] = {}
        self._tables = {name: _Table(base[name].size, plan.method.step is not None) for name in plan.names}
        self._evaluations = dict.fromkeys(plan.names, 0)
        self._expected = 0

    def differences(self) -> dict[str, Difference]:
        """Difference all names."""
        method = self._plan.method
        self._climb(method.rungs[0], self._plan.wanted)
        for more, wanting in ((method.rungs[1:], _Table.loose), (method.restarts, _Table.lost)):
            for start in more:
                # What no rung gave a bound is loose too: where nothing is, no further rung is taken.
                still = self._still(wanting)
                if not still:
                    break
                self._climb(start, still)
        for start in method.escalations:
            still = self._still(_Table.undecided)
            if not still or not self._may_escalate(still):
                break
            self._climb(start, still)
        return {name: self._difference(name) for name in self._plan.names}

    def _may_escalate(self, names: Iterable[str]) -> bool:
        """Whether there is an extended precision that every op has, and time for it."""
        return (
            EXTENDED_ROUNDOFF < _WORTH_IT
            and all(node.op.extended for node in self._point.graph.nodes)
            and self._plan.work_of(names) <= _MOST_EXTENDED_WORK
        )

    @kept
    def _extended(self) -> Point:
        graph = self._point.graph
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes}
        floats = {name: leaf.astype(np.longdouble) for name, leaf in leaves.items() if name not in graph.kinds}
        return Point(graph, graph.forward(leaves | floats))

    def _still(self, wanting: Callable[["_Table"], Array]) -> dict[str, Array]:
        """Flat indices of the elements asked for that want a further rung, by name."""
        found = {name: wanting(table) for name, table in self._tables.items()}
        sampled = self._plan.elements
        found |= {name: np.intersect1d(each, sampled[name]) for name, each in found.items() if name in sampled}
        return {name: each for name, each in found.items() if each.size}

    def _difference(self, name: str) -> Difference:
        found = self._tables[name].difference(self._point.values[name].shape[1:], self._evaluations[name])
        elements = self._plan.elements.get(name)
        if self._open:
            found = dataclasses.replace(self._sided(name, found), evaluations=self._evaluations[name])
        return found if elements is None else _examined(found, elements)

    def _climb(self, start: Start, wanted: Mapping[str, Array]) -> None:
        """Take one more rung, for the elements wanted of some names."""
        routes, colours = self._plan.way(wanted)
        self._expected = sum(self._evaluations.values()) + self._plan.method.evaluations * sum(
            map(len, colours.values())
        )
        found: dict[str, Quotients] = {}
        steps: dict[str, Array | float] = {}
        for route in routes:
            found[route.name], steps[route.name] = self._quotients(route, start, colours.get(route.name), found, steps)
        self._add({name: found[name] for name in wanted}, steps, wanted)

    def _add(
        self, found: Mapping[str, Quotients], steps: Mapping[str, Array | float], wanted: Mapping[str, Array]
    ) -> None:
        """Add a rung to the tables, reduced for all names in one pass: the reduction is by element."""
        values = np.concatenate([each.values for each in found.values()], axis=1)
        floors = np.concatenate([each.floors for each in found.values()], axis=1)
        values, bounds = self._plan.method.reduce(values, floors)
        start = 0
        for name, each in found.items():
            own = slice(start, start + each.rounding.size)
            self._tables[name].add(values[own], bounds[own], each.rounding, steps[name], wanted[name])
            start = own.stop

    def _quotients(
        self,
        route: Route,
        start: Start,
        colours: Array | None,
        found: Mapping[str, Quotients],
        steps: Mapping[str, Array | float],
    ) -> tuple[Quotients, Array | float]:
        """Quotients of a name, and its first step, from those of what it follows from."""
        parts = [pull.back(self._point, found[pull.reader], self._meter) for pull in route.pulls]
        # An element that moves nothing by itself is told the largest step of what moves for it.
        first_steps: list[Array | float] = [_largest(steps[pull.reader]) for pull in route.pulls]
        if route.moving is not None and colours is not None:
            probe = self._probe(route.moving)
            probe = probe.extended(self._extended) if start.extended else probe
            rung = probe.rung(start)
            parts.append(self._moved(route.name, rung, probe.blocks(colours)))
            first_steps.append(rung.first_steps)
        if not parts:
            return exactly(self._plan.method.levels, 1.0, 1), 0.0
        return total(parts), reduce(np.maximum, first_steps)

    def _probe(self, moving: Moving) -> Probe:
        if moving not in self._probes:
            self._probes[moving] = self._made(moving)
        return self._probes[moving]

    def _made(self, moving: Moving) -> Probe:
        suffix = moving.suffix.at(self._point)
        return Probe(suffix, moving.colouring, self._plan.method, self._meter, self._generator)

    def _moved(self, name: str, rung: Rung, blocks: Iterable[Array]) -> Quotients:
        """Quotients from moving a name, block by block, each of which is 0 where the others are not."""
        told = name if name in self._evaluations else self._plan.names[0]
        blocks = list(blocks)
        whole: Quotients | None = None
        for colours, part in zip(blocks, self._executor.map(rung.quotients, blocks), strict=True):
            if self._progress is not None:
                self._progress(told, sum(self._evaluations.values()), self._expected)
            self._evaluations[told] += len(colours) * self._plan.method.evaluations
            whole = part if whole is None else whole.joined(part)
        assert whole is not None
        return whole

    def _sided(self, name: str, found: Difference) -> Difference:
        """Differences to the left and to the right, at the elements where they are not one."""
        moving = self._plan.aside(name)
        if not moving.suffix.nodes_of(self._open):
            return found
        # One after the other, and not kept: there may be as many as there are names.
        probe = self._probes.get(moving) or self._made(moving)
        blocks = list(probe.blocks(moving.colouring.of(self._plan.wanted[name])))
        self._expected += 2 * self._plan.method.evaluations * sum(map(len, blocks))
        sides: list[tuple[Array, Array]] = []
        for sign in (-1.0, 1.0):
            rung = probe.rung(self._plan.method.rungs[0], Side(sign, self._open))
            quotients = self._moved(name, rung, blocks)
            value, bound = self._plan.method.reduce(quotients.values, quotients.floors)
            sides.append((value.reshape(found.value.shape), bound.reshape(found.value.shape)))
        return _with_sides(found, *sides)


def _largest(steps: Array | float) -> float:
    return float(steps.max() if isinstance(steps, np.ndarray) else steps)


def _with_sides(found: Difference, on_left: tuple[Array, Array], on_right: tuple[Array, Array]) -> Difference:
    (left, off_left), (right, off_right) = on_left, on_right
    apart = np.abs(left - right) > off_left + off_right
    for side, off in (on_left, on_right):
        apart |= np.abs(side - found.value) > off + found.error_bound
    if not apart.any():
        return found
    return dataclasses.replace(
        found,
        error_bound=np.where(apart, np.maximum(off_left, off_right), found.error_bound),
        left=np.where(apart, left, np.nan),
        right=np.where(apart, right, np.nan),
    )


class _Best(NamedTuple):
    """What the rung of the smallest bound says, element by element."""

    value: Array
    bound: Array
    rounding: Array
    steps: Array | float


class _Table:
    """Values and bounds of the elements of one name, by rung, and the best of them so far."""

    def __init__(self, count: int, given: bool) -> None:
        self._count = count
        # With a step that is given the difference is shown though nothing be known of it.
        self._given = given
        self._values: list[Array] = []
        self._bounds: list[Array] = []
        self._best: _Best | None = None

    def add(self, values: Array, bounds: Array, rounding: Array, steps: Array | float, elements: Array) -> None:
        """Add a rung, of some elements, by flat index."""
        known = np.isfinite(values) & (self._given or np.isfinite(bounds))
        if elements.size < self._count:
            asked = np.zeros(self._count, np.bool_)
            asked[elements] = True
            known &= asked
        values, bounds = np.where(known, values, np.nan), np.where(known, bounds, np.inf)
        self._values.append(values)
        self._bounds.append(bounds)
        found, last = _Best(values, bounds, rounding, steps), self._best
        if last is not None:
            better = bounds < last.bound
            found = _Best(*(np.where(better, new, old) for new, old in zip(found, last, strict=True)))
        self._best = found

    @property
    def best(self) -> _Best:
        """The rung of the smallest bound for each element, the first of those where it is the same."""
        assert self._best is not None
        return self._best

    def lost(self) -> Array:
        """Elements that no rung gave a bound."""
        return np.flatnonzero(~np.isfinite(self.best.bound))

    def loose(self) -> Array:
        """Elements whose bound is worth narrowing."""
        value, bound, *_ = self.best
        largest = np.abs(value).max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= _TIGHT * largest))

    def undecided(self) -> Array:
        """Elements of which it is not known whether they matter, or what they are."""
        value, bound, *_ = self.best
        value = np.abs(value)
        largest = value.max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= _DECIDED * np.fmax(value, _NEGLIGIBLE * largest)))

    def difference(self, shape: tuple[int, ...], evaluations: int) -> Difference:
        """What the best of each element says, where no other rung contradicts it."""
        value, bound, rounding, steps = self.best
        gap = self._gap()
        lost = ~np.isfinite(bound)
        # Without a bound there is no value either, except of a step that is given, and that is one rung.
        status = (lost | (gap > 0)) * np.uint8(Status.UNSETTLED)
        status[np.isnan(value)] = Status.NOT_FINITE
        return Difference(
            value.reshape(shape),
            np.where(lost, np.inf, bound + gap).reshape(shape),
            status.reshape(shape),
            evaluations,
            rounding.reshape(shape),
            np.where(lost, np.nan, steps).reshape(shape),
        )

    def _gap(self) -> Array | float:
        """Distance of each value from what another rung says it must be within.

        Where two rungs exclude each other, one estimate was too bold, and which one is not known.
        """
        if len(self._values) == 1:
            return 0.0
        value, bound, *_ = self.best
        values, bounds = np.array(self._values), np.array(self._bounds)
        known = np.isfinite(bounds)
        gaps = np.where(known, np.abs(np.where(known, values, 0) - value) - bounds - bound, 0)
        return np.maximum(0, gaps.max(axis=0))


def _examined(found: Difference, elements: Array) -> Difference:
    """Leave out all but some elements, by flat index."""
    left_out = np.ones(found.value.size, np.bool_)
    left_out[elements] = False
    left_out = left_out.reshape(found.value.shape)
    return dataclasses.replace(
        found,
        value=np.where(left_out, np.nan, found.value),
        error_bound=np.where(left_out, np.inf, found.error_bound),
        status=np.where(left_out, Status.NOT_EXAMINED, found.status).astype(np.uint8),
        steps=np.where(left_out, np.nan, found.steps),
        left=None if found.left is None else np.where(left_out, np.nan, found.left),
        right=None if found.right is None else np.where(left_out, np.nan, found.right),
    )
