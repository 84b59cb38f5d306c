"""Back-propagation through time that was cut.

The next step treats the state of a recurrence as a constant.

The states are the computed operands of the uses of one weight: h_0, h_1, ... of linear(h_k, w). A reader of a state
belongs to the next step if it leads to another state, or does the same as such a reader of another step. A head that
reads a state for a loss of its own step leads to no state, and its gradient goes on.
"""

from collections.abc import Iterator, Sequence

from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node

OperandUses = list[tuple[Node, int]]


def iterate_time_cuts(context: DiagnosisContext, names: Sequence[str]) -> Iterator[tuple[OperandUses, str]]:
    """Yield uses of states that carry no gradient, with a clause for it.

    For each state alone, then for all.
    """
    seen_states: set[tuple[str, ...]] = set()
    for name in names:
        states = tuple(_iterate_states(context, name))
        if len(states) < 2 or states in seen_states:
            continue
        seen_states.add(states)
        by_state = _group_uses_by_next_step(context, states)
        for state, uses in by_state.items():
            state_name = context.describe_name(state)
            yield uses, f"no gradient came back to {state_name} from the next step, as if it was detached"
        if len(by_state) > 1:
            all_uses = [use for uses in by_state.values() for use in uses]
            examples = ", ".join(context.describe_name(state) for state in (*by_state,)[:2])
            yield (
                all_uses,
                f"no gradient came back from any step to the one before: every state ({examples}, ...) was a constant",
            )


def _iterate_states(context: DiagnosisContext, name: str) -> Iterator[str]:
    """Iterate over the computed operands of the uses of a weight."""
    nodes = {node.name for node in context.graph.nodes}
    uses = context.get_uses(name)
    yield from dict.fromkeys(
        source for node, _ in uses for source in node.source_names if source != name and source in nodes
    )


def _group_uses_by_next_step(context: DiagnosisContext, states: Sequence[str]) -> dict[str, OperandUses]:
    """Group the uses by the next step by their state."""
    leading = _find_nodes_leading_to_states(context, set(states))
    computed = {node.name for node in context.graph.nodes}

    def describe_use(use: tuple[Node, int]) -> tuple[object, ...]:
        """Return the part of a use that is equal at every step: op, position and weights."""
        node, position = use
        return node.op.name, position, *(source for source in node.source_names if source not in computed)

    kinds = {describe_use(use) for state in states for use in context.get_uses(state) if use[0].name in leading}
    uses_by_state = {state: [use for use in context.get_uses(state) if describe_use(use) in kinds] for state in states}
    return {state: uses for state, uses in uses_by_state.items() if uses}


def _find_nodes_leading_to_states(context: DiagnosisContext, states: set[str]) -> set[str]:
    """Return the nodes that are states, or lead to states."""
    leading = set(states)
    for node in reversed(context.graph.nodes):
        if node.name in leading:
            leading.update(node.source_names)
    return leading
