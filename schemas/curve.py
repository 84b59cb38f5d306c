"""`POST /v1/curve`: the request, that of a check and an element, and the answer."""

from typing import Annotated, Generic

from annotated_types import Ge, Le, MaxLen
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from schemas.check import CheckRequest, NodeT
from schemas.report import Number
from schemas.strict_model import Name, StrictModel
from schemas.tensor import MAX_DIMENSIONS

AxisIndex = Annotated[int, Ge(-(2**63)), Le(2**63 - 1)]


class ElementSpec(StrictModel):
    """One element of a tensor, a weight or a node."""

    name: Name = Field(
        description="A weight, float tensor or node; it need not be in with_respect_to.", examples=["w1"]
    )
    index: Annotated[list[AxisIndex], MaxLen(MAX_DIMENSIONS)] = Field(
        description="One number for each axis, as in NumPy: from 0, or from -1 backwards; [] for a 0-d tensor.",
        examples=[[0, 1]],
    )


class CurveRequest(CheckRequest[NodeT], Generic[NodeT]):
    """A check's request, and an element; the fields for candidates and verdicts are unused."""

    element: ElementSpec = Field(description="The element of the curve.", examples=[{"name": "w1", "index": [0, 1]}])


class EngineDifference(TypedDict):
    """The difference of the element by the engine, with the method of the request."""

    value: Number
    error_bound: Number
    step: Annotated[Number, Field(description="First step of the table it took, in units of the element; NaN if none.")]


class CurveReport(TypedDict):
    """Differences of the whole loss in float64 at the point rounded to `dtype`, one for each step."""

    analytic: Annotated[Number, Field(description="The analytic gradient, in `dtype`.")]
    steps: Annotated[list[float], Field(description="h, from 1e-16 to 1, ascending, four to a decade.")]
    forward: Annotated[list[Number], Field(description="(f(x + h) - f(x)) / h, divided by h as given.")]
    central: Annotated[list[Number], Field(description="(f(x + h) - f(x - h)) / (2 h), divided by h as given.")]
    complex_step: NotRequired[
        Annotated[
            list[Number],
            Field(description="Im f(x + i h) / h; absent where an op on the way to the loss is not analytic."),
        ]
    ]
    engine: EngineDifference
