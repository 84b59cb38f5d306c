"""The operators of a module that have no counterpart, with the parts of the module that have none of them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from gradcheckd.torch.module_errors import UnsupportedOperator, report_unsupported
from gradcheckd.torch.node_names import find_source_line, get_module_path


class MissingOperators:
    """Collects the nodes of torch.fx that have no counterpart.

    Parameters
    ----------
    names
        Name of each node for a person.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names
        self._nodes: dict[tuple[str, str], list[Any]] = defaultdict(list)

    def add(self, node: Any, reason: str) -> None:
        """Add a node, and the reason in words."""
        self._nodes[(str(node.target), reason)].append(node)

    def refuse(self, graph: Any) -> None:
        """Raise one error for all nodes, if there are any."""
        if not self._nodes:
            return
        operators = [
            UnsupportedOperator(
                operator,
                reason,
                tuple(self._names[node.name] for node in nodes),
                tuple(dict.fromkeys(filter(None, map(find_source_line, nodes)))),
            )
            for (operator, reason), nodes in self._nodes.items()
        ]
        operators.sort(key=lambda operator: -operator.count)
        wrong_nodes = [node for nodes in self._nodes.values() for node in nodes]
        raise report_unsupported(operators, _find_checkable(graph, wrong_nodes))


def _find_checkable(graph: Any, wrong_nodes: Sequence[Any]) -> list[str]:
    """Return the paths of the largest submodules none of whose nodes is wrong, in the order of the graph."""
    wrong = {path for node in wrong_nodes for path in _list_ancestors(get_module_path(node))}
    good: dict[str, None] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        path = next((path for path in _list_ancestors(get_module_path(node)) if path not in wrong), None)
        if path:
            good[path] = None
    return list(good)


def _list_ancestors(path: str) -> list[str]:
    """Return a path and those above it, the shortest first; the root is ""."""
    parts = path.split(".") if path else []
    return ["", *(".".join(parts[: count + 1]) for count in range(len(parts)))]
