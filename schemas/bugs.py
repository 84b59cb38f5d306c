"""`GET /v1/bugs` and `POST /v1/bugs`: the catalogue, the request and the planted bugs."""

from typing import Annotated, Any, Generic

from annotated_types import MaxLen, MinLen
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from schemas.check import CheckRequest, NodeT
from schemas.problem_details import MAX_NAME_LENGTH


class BugsRequest(CheckRequest[NodeT], Generic[NodeT]):
    """A check's request, and the name of a bug; a candidate in it is ignored."""

    bug: Annotated[str, MinLen(1), MaxLen(MAX_NAME_LENGTH)] | None = Field(
        default=None,
        description="Name of the bug to plant; if left out, all possible bugs are listed.",
        examples=["transposed"],
    )


class BugEntry(TypedDict):
    """A bug of the catalogue."""

    name: str
    explanation: Annotated[str, Field(description="Its effect; c is the candidate, g the right gradient.")]


class CatalogueOfBugs(TypedDict):
    """Every bug that a check names."""

    bugs: list[BugEntry]


class PlantedBug(TypedDict):
    """A bug that the model can have."""

    name: str
    tensor: Annotated[str, Field(description="The tensor whose gradient it spoils, or the first of several.")]
    explanation: str
    candidate: NotRequired[
        Annotated[
            dict[str, Any],
            Field(
                description="The gradients with the bug, by name, if the request names one: a check of them fails, "
                "and names it."
            ),
        ]
    ]


class BugsAnswer(TypedDict):
    """Bugs that the model can have."""

    bugs: list[PlantedBug]
