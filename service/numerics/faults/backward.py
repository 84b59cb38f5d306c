"""Bugs of the backward pass: derivatives that are wrong at a node, paths that are cut, shares that are lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from service.numerics.faults import samples, through_time
from service.numerics.faults.fault import Alteration, OnTheWayBack, Wrong, on_the_way_back
from service.numerics.faults.scene import Scene
from service.numerics.graph import Node
from service.numerics.ops.op import Gradients, Mutant
from service.numerics.tiles import Array, Shape

_MOST_USES = 64
"""Of a tensor each of which is tried as the only one: each takes an alteration of all others."""
_SAME = 1e-12
"""Relatively: what comes back by two ways is the same."""


def mutants(scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
    """Each wrong backward pass that an op knows of, at each node with that op, and at all of them together.

    As of all bugs here: at the nodes that the names reach, since elsewhere it does not show.
    """
    by_op: dict[type[Any], list[Node]] = {}
    for node in scene.graph.downstream(names):
        by_op.setdefault(type(node.op), []).append(node)
    for op, nodes in by_op.items():
        for mutant in op.mutants.values():
            if mutant.declared:
                continue
            where = [node for node in nodes if mutant.applies(_shapes(scene, node))]
            for node in where:
                yield _with_mutant(mutant, [node], partial(_at, scene, node, mutant))
            if len(where) > 1:
                yield _with_mutant(mutant, where, partial("at every {} {}".format, op.name, mutant.text))


def _shapes(scene: Scene, node: Node) -> tuple[Shape | None, ...]:
    """Shapes of the output and of the inputs of a node; None for what is left out."""
    inputs = (
        scene.graph.shapes[each] if isinstance(each, str) else None if each is None else () for each in node.operands
    )
    return scene.graph.shapes[node.name], *inputs


def _with_mutant(mutant: Mutant, nodes: Sequence[Node], text: Callable[[], str]) -> Alteration:
    return Alteration(mutant.fault, {node.name: partial(_by_mutant, mutant, node) for node in nodes}, text)


def _by_mutant(mutant: Mutant, node: Node, right: Gradients, *arrays: Any) -> Gradients:
    return mutant.backward(node.op, *arrays)


def _at(scene: Scene, node: Node, mutant: Mutant) -> str:
    return f"at {_told(scene, node)} {mutant.text}"


def _told(scene: Scene, node: Node) -> str:
    return f"{scene.shown(node.name)} ({node.op.name})"


def times(factor: int, positions: Sequence[int], right: Gradients, *arrays: Any) -> Gradients:
    """Right results, with what some operands get multiplied."""
    return tuple(
        factor * each if position in positions and each is not None else each for position, each in enumerate(right)
    )


@dataclass(frozen=True)
class Edge:
    """What one node hands back to one of its operands, which it may read at several positions."""

    node: Node
    positions: tuple[int, ...]
    operand: str

    def told(self, scene: Scene) -> str:
        """How it stands in a sentence."""
        return f"what comes back to {scene.shown(self.operand)} from {_told(scene, self.node)}"

    def share(self, scene: Scene) -> Array:
        """What comes back along it."""
        node, gradients, values = self.node, scene.gradients, scene.values
        results = node.op.backward(gradients[node.name], values[node.name], *scene.graph.inputs(node, values))
        shares = [each for at, each in enumerate(results) if at in self.positions and each is not None]
        return np.asarray(sum(each[0] for each in shares))

    def each(self) -> Iterator["Edge"]:
        """Each position by itself, where there are several."""
        if len(self.positions) > 1:
            yield from (replace(self, positions=(position,)) for position in self.positions)

    def without(self, one: "Edge") -> "Edge":
        """The other positions."""
        return replace(self, positions=tuple(at for at in self.positions if at not in one.positions))

    def only(self, scene: Scene, one: "Edge") -> str:
        """Say that of several positions one counts alone; where all hand back the same, which it is nobody can tell."""
        name, node, several = scene.shown(self.operand), _told(scene, self.node), len(self.positions)
        first, *others = (each.share(scene) for each in self.each())
        if all(np.allclose(first, other, rtol=_SAME, atol=0) for other in others):
            part = "half" if several == 2 else f"1/{several}"
            return f"only {part} of {self.told(scene)} counted: one of the {several} operands of {node} that are {name}"
        slot = self.node.slots[one.positions[0]].name
        return f"of the {several} operands of {node} that are {name} only one counted ({slot})"


def edges(scene: Scene, names: Sequence[str]) -> Iterator[Edge]:
    """Each operand that gets a gradient, at each node."""
    for node in scene.graph.downstream(names):
        positions: dict[str, list[int]] = {}
        for position, operand in enumerate(node.operands):
            if isinstance(operand, str) and operand not in scene.graph.kinds:
                positions.setdefault(operand, []).append(position)
        yield from (Edge(node, tuple(each), operand) for operand, each in positions.items())


def edges_of(scene: Scene, name: str) -> Iterator[Edge]:
    """Those that lead back to one name."""
    nodes = {node.name: node for node, _ in scene.uses(name)}
    for node in nodes.values():
        positions = tuple(at for at, operand in enumerate(node.operands) if operand == name)
        yield Edge(node, positions, name)


@on_the_way_back
class PathCut(OnTheWayBack):
    """One of several paths to the loss carries no gradient."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = the gradient along the remaining paths"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        for edge in edges(scene, names):
            text = partial(self._text, scene, edge)
            yield Alteration(self.name, _with_factor(0, edge), text, partial(edge.told, scene))
        for cut, said in through_time.cuts(scene, names):
            yield Alteration(self.name, _all_cut(cut), partial(str, said))
        for node in scene.graph.downstream(names):
            if len({user.name for user, _ in scene.uses(node.name)}) > 1:
                nothing = partial(times, 0, range(len(node.operands)))
                text = partial("nothing came back through {}".format, _told(scene, node))
                came = partial("what comes back through {}".format, _told(scene, node))
                yield Alteration(self.name, {node.name: nothing}, text, came)

    @staticmethod
    def _text(scene: Scene, edge: Edge) -> str:
        return f"the path from {scene.shown(edge.operand)} through {_told(scene, edge.node)} carried no gradient"


def _with_factor(factor: int, edge: Edge) -> dict[str, Wrong]:
    return {edge.node.name: partial(times, factor, edge.positions)}


@on_the_way_back
class LastUseOnly(OnTheWayBack):
    """Of a tensor that is used several times one use counts alone."""

    name: ClassVar[str] = "shared_weight_last_use_only"
    signature: ClassVar[str] = "c = one use's share"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        for edge in edges(scene, names):
            for kept in edge.each():
                yield Alteration(self.name, _with_factor(0, edge.without(kept)), partial(edge.only, scene, kept))
        for name in names:
            uses = scene.uses(name)
            for kept in _likeliest(len(uses)) if len({node.name for node, _ in uses}) > 1 else ():
                cut = [use for number, use in enumerate(uses) if number != kept]
                text = partial(self._text, scene, name, uses[kept][0], len(uses))
                yield Alteration(self.name, _all_cut(cut), text)

    @staticmethod
    def _text(scene: Scene, name: str, kept: Node, uses: int) -> str:
        return (
            f"of the {uses} uses of {scene.shown(name)} only the one in {_told(scene, kept)} counted, where their "
            "shares have to be added up"
        )


def _likeliest(count: int) -> Iterator[int]:
    """Which of several uses may be the only one: the last, the first, and then the others, as far as they are tried."""
    last = count - 1
    order = dict.fromkeys(each for nth in range(count) for each in (last - nth, nth))
    return islice(iter(order), _MOST_USES)


def _all_cut(uses: Sequence[tuple[Node, int]]) -> dict[str, Wrong]:
    positions: dict[str, list[int]] = {}
    for node, position in uses:
        positions.setdefault(node.name, []).append(position)
    return {name: partial(times, 0, each) for name, each in positions.items()}


@on_the_way_back
class DoubleCounted(OnTheWayBack):
    """The share of one use was added twice."""

    name: ClassVar[str] = "double_counted"
    signature: ClassVar[str] = "c = g + one share"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        for edge in edges(scene, names):
            yield Alteration(self.name, _with_factor(2, edge), partial(self._text, scene, edge))
        for overrides, said in samples.counted_twice(scene, names):
            yield Alteration(self.name, overrides, partial(str, said))

    @staticmethod
    def _text(scene: Scene, edge: Edge) -> str:
        return f"{edge.told(scene)} was added twice"
