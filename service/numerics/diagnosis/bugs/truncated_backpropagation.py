"""Back-propagation through time that was cut: the state of a recurrence was taken as a constant by the next step.

The states are what the uses of one weight read, where nodes compute it: h_0, h_1, ... of linear(h_k, w). Of what reads
a state the next step is what leads to another state, and what does the same at another step; a head that reads a state
for a loss of its own step leads to none, and goes on.
"""

from collections.abc import Iterator, Sequence

from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node

OperandUses = list[tuple[Node, int]]


def iterate_time_cuts(scene: DiagnosisContext, names: Sequence[str]) -> Iterator[tuple[OperandUses, str]]:
    """Uses of states that carry no gradient, and that in words: of each state by itself, and of all of them."""
    seen: set[tuple[str, ...]] = set()
    for name in names:
        states = tuple(_iterate_states(scene, name))
        if len(states) < 2 or states in seen:
            continue
        seen.add(states)
        by_state = _group_uses_by_next_step(scene, states)
        for state, uses in by_state.items():
            yield (
                uses,
                f"nothing came back to {scene.format_name(state)} from the next step, as where a state is detached",
            )
        if len(by_state) > 1:
            every = [use for uses in by_state.values() for use in uses]
            shown = ", ".join(scene.format_name(state) for state in (*by_state,)[:2])
            yield every, f"nothing came back from one step to the one before: every state ({shown}, ...) was a constant"


def _iterate_states(scene: DiagnosisContext, name: str) -> Iterator[str]:
    """What nodes compute and the uses of a weight read beside it."""
    nodes = {node.name for node in scene.graph.nodes}
    uses = scene.uses_of(name)
    yield from dict.fromkeys(each for node, _ in uses for each in node.source_names if each != name and each in nodes)


def _group_uses_by_next_step(scene: DiagnosisContext, states: Sequence[str]) -> dict[str, OperandUses]:
    """Uses of each state by the next step."""
    leading = _find_nodes_leading_to_states(scene, set(states))
    computed = {node.name for node in scene.graph.nodes}

    def kind(use: tuple[Node, int]) -> tuple[object, ...]:
        """What is the same of the same use at every step: the op, the position and the weights beside it."""
        node, position = use
        return node.op.name, position, *(each for each in node.source_names if each not in computed)

    kinds = {kind(use) for state in states for use in scene.uses_of(state) if use[0].name in leading}
    found = {state: [use for use in scene.uses_of(state) if kind(use) in kinds] for state in states}
    return {state: uses for state, uses in found.items() if uses}


def _find_nodes_leading_to_states(scene: DiagnosisContext, states: set[str]) -> set[str]:
    """Nodes that are states, or lead to some."""
    leading = set(states)
    for node in reversed(scene.graph.nodes):
        if node.name in leading:
            leading.update(node.source_names)
    return leading
