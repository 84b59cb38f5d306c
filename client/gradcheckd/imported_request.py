"""The request of a check that is made of a model in another form: an ONNX file, or a module of torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from gradcheckd.errors import RequestError, hide_frames

__tracebackhide__ = hide_frames


@dataclass(frozen=True, eq=False)
class ImportedRequest(Mapping[str, Any]):
    """A request for `gradcheckd.check`, which takes it as `check(**request)`.

    Attributes
    ----------
    tensors, weights
        Inputs and constants; parameters. Arrays by name.
    fields
        Other fields of the request, with the model among them.
    note
        The choices of the import, in a sentence: which values are random, and what the loss is.
    """

    tensors: Mapping[str, Any]
    weights: Mapping[str, Any]
    fields: Mapping[str, Any] = field(repr=False)
    note: str = ""

    def _get_fields(self) -> dict[str, Any]:
        return {"tensors": self.tensors, "weights": self.weights, **self.fields}

    def __getitem__(self, name: str) -> Any:
        return self._get_fields()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._get_fields())

    def __len__(self) -> int:
        return len(self._get_fields())

    @property
    def model(self) -> Mapping[str, Any]:
        """Return the graph, an object with the list `nodes`."""
        return self.fields["model"]

    @property
    def node_count(self) -> int:
        """Return the number of nodes."""
        return len(self.model["nodes"])

    @property
    def with_respect_to(self) -> tuple[str, ...]:
        """Return the names of the tensors whose gradients are judged: by default those of all weights."""
        return tuple(self.fields.get("with_respect_to", self.weights))

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """Return the request with other values of some tensors and weights.

        Parameters
        ----------
        values
            Arrays, or lists of numbers, by the name of a tensor or a weight, in its shape.

        Raises
        ------
        RequestError
            There is no tensor of that name, or it has another shape.
        """
        sections = {"tensors": dict(self.tensors), "weights": dict(self.weights)}
        for name, value in values.items():
            section = next((section for section in sections.values() if name in section), None)
            if section is None:
                known = ", ".join([*self.tensors, *self.weights])
                raise RequestError(f"The request has no tensor {name!r}; it has {known[:500]}.")
            if np.shape(value) != np.shape(section[name]):
                raise RequestError(
                    f"{name} has the shape {list(np.shape(section[name]))}; {list(np.shape(value))} was given."
                )
            section[name] = value
        return replace(self, **sections)
