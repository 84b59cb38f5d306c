"""The request of a module: a graph with its tensors, ready for a check."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gradcheckd.imported_request import ImportedRequest
from gradcheckd.torch.aten_nodes.graph_builder import FixedValue


@dataclass(frozen=True, eq=False, kw_only=True)
class Request(ImportedRequest):
    """A request for `gradcheckd.check`, which takes it as `check(**request)`.

    Attributes
    ----------
    cotangents
        Factor of each output in the loss, by the name of the output; None of an output that is the loss itself.
    unused
        Judged parameters and inputs on which the loss does not depend; they are not in the graph.
    fixed
        Values that depend on judged tensors and are constants of the graph, and comparisons with constants that low
        precision rounds.
    places
        Line of source of each node that has one, "file.py:12", by the name of the node.
    arithmetic
        Least precise datatype in which the module computes, such as "FP32": a cast within it counts.
    """

    cotangents: Mapping[str, Tensor | None] = field(repr=False)
    unused: Mapping[str, Any] = field(repr=False)
    fixed: tuple[FixedValue, ...] = field(repr=False)
    places: Mapping[str, str] = field(repr=False)
    arithmetic: str

    def include_unused(self, names: Iterable[str]) -> "Request":
        """Return the request with tensors that the loss does not depend on: their gradient is 0.

        The loss gets a term 0 * sum(tensor) for each.
        """
        nodes: list[dict[str, Any]] = list(self.model["nodes"])
        tensors, chosen = dict(self.tensors), list(names)
        for name in chosen:
            tensors[name] = self.unused[name]
            loss = nodes[-1]["name"]
            nodes += [
                {"name": f"{name}.unused", "op": "mul", "inputs": [name, 0.0]},
                {"name": f"{name}.unused.sum", "op": "sum", "inputs": [f"{name}.unused"]},
                {"name": f"{name}.loss", "op": "add", "inputs": [loss, f"{name}.unused.sum"]},
            ]
        return replace(
            self,
            tensors=tensors,
            fields={"model": {"nodes": nodes}, "with_respect_to": [*self.with_respect_to, *chosen]},
            unused={name: value for name, value in self.unused.items() if name not in chosen},
        )
