"""Back-propagation through time that was cut: the state of a recurrence was taken as a constant by the next step.

The states are what the uses of one weight read, where nodes compute it: h_0, h_1, ... of linear(h_k, w). Of what reads
a state the next step is what leads to another state, and what does the same at another step; a head that reads a state
for a loss of its own step leads to none, and goes on.
"""

from collections.abc import Iterator, Sequence

from service.numerics.faults.scene import Scene
from service.numerics.graph import Node

Uses = list[tuple[Node, int]]


def cuts(scene: Scene, names: Sequence[str]) -> Iterator[tuple[Uses, str]]:
    """Uses of states that carry no gradient, and that in words: of each state by itself, and of all of them."""
    seen: set[tuple[str, ...]] = set()
    for name in names:
        states = tuple(_states(scene, name))
        if len(states) < 2 or states in seen:
            continue
        seen.add(states)
        by_state = _next_steps(scene, states)
        for state, uses in by_state.items():
            yield uses, f"nothing came back to {scene.shown(state)} from the next step, as where a state is detached"
        if len(by_state) > 1:
            every = [use for uses in by_state.values() for use in uses]
            shown = ", ".join(scene.shown(state) for state in (*by_state,)[:2])
            yield every, f"nothing came back from one step to the one before: every state ({shown}, ...) was a constant"


def _states(scene: Scene, name: str) -> Iterator[str]:
    """What nodes compute and the uses of a weight read beside it."""
    nodes = {node.name for node in scene.graph.nodes}
    uses = scene.uses(name)
    yield from dict.fromkeys(each for node, _ in uses for each in node.sources if each != name and each in nodes)


def _next_steps(scene: Scene, states: Sequence[str]) -> dict[str, Uses]:
    """Uses of each state by the next step."""
    leading = _leading(scene, set(states))
    computed = {node.name for node in scene.graph.nodes}

    def kind(use: tuple[Node, int]) -> tuple[object, ...]:
        """What is the same of the same use at every step: the op, the position and the weights beside it."""
        node, position = use
        return node.op.name, position, *(each for each in node.sources if each not in computed)

    kinds = {kind(use) for state in states for use in scene.uses(state) if use[0].name in leading}
    found = {state: [use for use in scene.uses(state) if kind(use) in kinds] for state in states}
    return {state: uses for state, uses in found.items() if uses}


def _leading(scene: Scene, states: set[str]) -> set[str]:
    """Nodes that are states, or lead to some."""
    leading = set(states)
    for node in reversed(scene.graph.nodes):
        if node.name in leading:
            leading.update(node.sources)
    return leading
