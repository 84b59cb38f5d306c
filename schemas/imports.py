"""`POST /v1/import`, the answer: a request of a check."""

from typing import Annotated, Any

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

ONNX = "application/onnx"
"""Media type of an ONNX file."""
NOTE_HEADER = "Gradcheckd-Note"
"""Header of an answer with the choices of the import, in a sentence."""


class ImportAnswer(TypedDict):
    """A request of `POST /v1/check`, made from a file; it can be posted as it is."""

    tensors: Annotated[dict[str, Any], Field(description="Inputs, with random values, and constants, by name.")]
    weights: Annotated[dict[str, Any], Field(description="Initialisers of floats, by name.")]
    model: Annotated[dict[str, Any], Field(description="The graph, with the loss last.")]
    finite_difference: dict[str, Any]
    with_respect_to: NotRequired[Annotated[list[str], Field(description="Inputs, for a model without weights.")]]
