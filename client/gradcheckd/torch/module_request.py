"""The request of a module: a graph with its tensors, ready for a check."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from gradcheckd.torch.module_graph import FixedValue


@dataclass(frozen=True, eq=False)
class Request(Mapping[str, Any]):
    """A request for `gradcheckd.check`, which takes it as `check(**request)`.

    Attributes
    ----------
    model
        Graph, `{"nodes": [...]}`.
    weights, tensors
        Parameters that are judged; inputs and constants.
    with_respect_to
        Names of the judged parameters and inputs.
    cotangents
        Factor of each output in the loss, by the name of the output; None of an output that is the loss itself.
    unused
        Judged parameters and inputs on which the loss does not depend; they are not in the graph.
    fixed
        Values that depend on judged tensors and stay fixed at the point.
    arithmetic
        Least precise datatype in which the module computes, such as "FP32": a cast within it counts.
    """

    model: Mapping[str, Any]
    weights: Mapping[str, Any]
    tensors: Mapping[str, Any]
    with_respect_to: tuple[str, ...]
    cotangents: Mapping[str, Tensor | None] = field(repr=False)
    unused: Mapping[str, Any] = field(repr=False)
    fixed: tuple[FixedValue, ...] = field(repr=False)
    arithmetic: str

    def _get_fields(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "weights": self.weights,
            "tensors": self.tensors,
            "with_respect_to": list(self.with_respect_to),
        }

    def __getitem__(self, name: str) -> Any:
        return self._get_fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._get_fields())

    def __len__(self) -> int:
        return len(self._get_fields())

    @property
    def node_count(self) -> int:
        """Return the number of nodes."""
        return len(self.model["nodes"])

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
            model={"nodes": nodes},
            tensors=tensors,
            with_respect_to=(*self.with_respect_to, *chosen),
            unused={name: value for name, value in self.unused.items() if name not in chosen},
        )
