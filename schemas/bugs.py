"""`GET /v1/bugs` and `POST /v1/bugs`: the catalogue, the request, which is that of a check, and what can be planted."""

from typing import Annotated, Any, Generic

from annotated_types import MaxLen, MinLen
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from schemas.check import CheckRequest, NodeT
from schemas.problem_details import MAX_NAME_LENGTH


class BugsRequest(CheckRequest[NodeT], Generic[NodeT]):
    """A check's request, and the bug that is asked for; a candidate in it is put aside."""

    bug: Annotated[str, MinLen(1), MaxLen(MAX_NAME_LENGTH)] | None = Field(
        default=None,
        description="Name of a bug that is to be planted; if left out, all that there can be are listed.",
        examples=["transposed"],
    )


class BugEntry(TypedDict):
    """A bug of the catalogue."""

    name: str
    explanation: Annotated[str, Field(description="What it looks like; c is the candidate, g the right gradient.")]


class CatalogueOfBugs(TypedDict):
    """Every bug that a check names."""

    bugs: list[BugEntry]


class PlantedBug(TypedDict):
    """A bug that the model can have."""

    name: str
    tensor: Annotated[str, Field(description="Whose gradient it spoils, or the first of those.")]
    explanation: str
    candidate: NotRequired[
        Annotated[
            dict[str, Any],
            Field(
                description="The gradients with the bug, by name, where the request names one: a check of them fails, "
                "and names it."
            ),
        ]
    ]


class BugsAnswer(TypedDict):
    """Bugs that the model can have."""

    bugs: list[PlantedBug]
