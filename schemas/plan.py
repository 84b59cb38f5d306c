"""`POST /v1/plan` and `POST /v1/judge`: requests and answers of a check of a loss that only the client can evaluate."""

from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema
from typing_extensions import NotRequired, TypedDict

from schemas.check import Arithmetic, Name, RequestedEncoding, StrictModel, ToleranceSpec
from schemas.report import Diagnosis, Elements, Index, MissedAlong, MissedInSample, Number, OutcomeName, WorstElement
from schemas.tensor import NONFINITE_SPELLINGS, AnyTensor, Tensor, make_tensor_schema

PLAN_VERSION = 2
MAX_DIRECTIONS = 2**31 - 1

Points = Annotated[dict[Name, Tensor], MinLen(1)]
Losses = Annotated[
    Any,
    # Looked at by `service.checks.blackbox.losses`, with the point that each is of.
    GetPydanticSchema(lambda source, handler: core_schema.list_schema(strict=True)),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"anyOf": [{"type": "number"}, {"type": "null"}, {"enum": list(NONFINITE_SPELLINGS)}]},
            "description": "The loss at each point, in order; null where the function has no value, but not at the "
            "base (the first three). What is not finite is refused with its point.",
        }
    ),
]


class DirectionsSpec(StrictModel):
    """Along what the loss is differenced."""

    kind: Literal["coordinates", "random"] = Field(
        default="random",
        description="Of single elements, or standard Gaussian ones of whole tensors.",
        examples=["random"],
    )
    count: Annotated[int, Ge(1), Le(MAX_DIRECTIONS)] | None = Field(
        default=None, description="Directions of each tensor; by default 4 random ones, or all of its elements."
    )


class BoundsSpec(StrictModel):
    """Bounds of one tensor, within which the loss has a value; infinite where there is none."""

    min: AnyTensor = Field(
        default_factory=lambda: Tensor(np.array(-np.inf), None, is_integral=False),
        description="A number, or a tensor of the point's shape; no element is moved below it.",
    )
    max: AnyTensor = Field(
        default_factory=lambda: Tensor(np.array(np.inf), None, is_integral=False), description="As min, above."
    )


class PlanRequest(StrictModel):
    """Where a gradient is to be judged."""

    point: Points = Field(
        description="Tensors of floats by name: where the gradient is.", examples=[{"w1": [[0.1, -0.1], [0.2, 0.001]]}]
    )
    directions: DirectionsSpec = DirectionsSpec()
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = Field(default=0, description="All that is random follows from it.")
    scale: dict[Name, Tensor] | None = Field(
        default=None,
        description="How far to move each tensor, by name: a number, or one for each element in a tensor of its shape. "
        "The largest step is 1/8 of it (FP16: 1/4, BF16: 1/2), along random directions times a Gaussian number; taken "
        "down to a power of two. By default the median size of the elements that are not 0; an element that is moved "
        "alone, by its own size where that is larger.",
        examples=[{"w1": 0.25}],
    )
    bounds: dict[Name, BoundsSpec] | None = Field(
        default=None,
        description="Bounds of tensors, by name, within which all points lie. An element near a bound is moved by "
        "less; on it, to one side alone.",
        examples=[{"w1": {"min": 0}}],
    )
    encoding: RequestedEncoding = Field(default="nested", description="Of the points of the answer.")


class SealedDirections(StrictModel):
    """Directions of a plan."""

    kind: Literal["coordinates", "random"]
    count: Annotated[int, Ge(1), Le(MAX_DIRECTIONS)]


class Plan(StrictModel):
    """A plan, to be handed back as it came."""

    version: int
    seed: Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,18})$")] = Field(
        description="Digits in a string: not every language has integers of 63 bits."
    )
    order: list[Name] = Field(
        default_factory=list[Name], description="Names of the tensors, as the request had them: so the points follow."
    )
    directions: SealedDirections
    point: Points
    scale: dict[Name, Tensor]
    bounds: dict[Name, BoundsSpec] = Field(default_factory=dict[Name, BoundsSpec])
    evaluations: Annotated[int, Ge(1)]
    checks: dict[str, str] = Field(description="Checksums of its other parts.")


class JudgeRequest(StrictModel):
    """Losses at the points of a plan, and the gradient that is judged by them."""

    plan: Plan = Field(description="As `POST /v1/plan` answered it.")
    losses: Losses
    candidate: dict[Name, AnyTensor] = Field(
        description="The client's own gradient, for each tensor of the plan.",
        examples=[{"w1": [[-0.1342, -0.1833], [-0.2813, -0.3303]]}],
    )
    candidate_dtype: Arithmetic | None = Field(
        default=None,
        description="Arithmetic in which the candidate was computed; by default its datatype, or else the point's.",
    )
    tolerance: ToleranceSpec | None = Field(
        default=None,
        description="Replaces what the candidate may be off by, as in a check: along a line with the derivative g it "
        "passes if it is off by at most atol + rtol abs(g), and is inconclusive where the error bound exceeds that.",
    )
    relative_error: Annotated[float, Gt(0), Le(1e6)] = Field(
        default=1e-4, description="Error of one element of which `missed.single_element` tells the probability."
    )


class PlanAnswer(TypedDict):
    """Where to evaluate the loss."""

    plan: Annotated[dict[str, Any], Field(description="To be handed back to `POST /v1/judge` as it is.")]
    evaluations: Annotated[int, Field(description="How many points there are.")]
    order: Annotated[list[str], Field(description="Names of the tensors, in the order of the request.")]
    points: Annotated[
        list[dict[str, Annotated[Any, WithJsonSchema(make_tensor_schema(finite=True))]]],
        Field(description="Tensors by name, of each point."),
    ]


class JudgedDirection(TypedDict):
    """One direction, with all that its outcome follows from."""

    index: NotRequired[Annotated[Index, Field(description="Of the element, where the direction is that of one.")]]
    reference: Annotated[Number, Field(description="The derivative of the loss, from differences.")]
    judged: Annotated[Number, Field(description="The candidate's.")]
    route: Literal["candidate"]
    error_bound: Number
    allowed: Number
    outcome: OutcomeName


class SingleElement(TypedDict):
    """How probably one wrong element passed."""

    relative_error: Annotated[Number, Field(description="By which it is wrong, relative to itself.")]
    probability: float


class MissedRandom(MissedAlong):
    """What random directions miss: an error of any kind at most, a single wrong element just so."""

    single_element: SingleElement


class MissedCoordinates(MissedInSample):
    """What elements that were not moved miss, and a single wrong one with what noise hides."""

    single_element: SingleElement


class Taylor(TypedDict):
    """The remainder R(h) = f(x + h v) - f(x) - h c . v along the worst direction."""

    name: NotRequired[Annotated[str, Field(description="The tensor, in that of the whole report.")]]
    direction: Annotated[int, Field(description="Its position in `directions`.")]
    steps: Annotated[list[float], Field(description="h, in units of the scale.")]
    remainders: list[Number]
    slope: Annotated[
        Number,
        Field(description="Of log abs(R) against log h: 2 of a right gradient, 1 of a wrong one; NaN below the noise."),
    ]
    intercept: Annotated[
        Number, Field(description="What of R grows like h, (reference - judged) / abs(judged), with its sign.")
    ]
    factor: Annotated[Number, Field(description="reference / judged: -1 where a sign is wrong.")]


class JudgedVerdict(TypedDict):
    """What is to be thought of one gradient."""

    outcome: OutcomeName
    reason: str
    elements: Elements
    smallest_detectable_error: Annotated[
        Number, Field(description="Relative, of an element that matters; of random directions, of the norm.")
    ]
    worst: Annotated[list[WorstElement], Field(description="Of elements; of random directions there are none.")]
    diagnoses: list[Diagnosis]
    directions: list[JudgedDirection]
    noise: Annotated[Number, Field(description="Standard deviation of an evaluation of the loss, absolute.")]
    taylor: Taylor
    missed: MissedRandom | MissedCoordinates
    without_value: Annotated[int, Field(description="Points of this tensor at which the loss has no value.")]


class JudgeReport(TypedDict):
    """The verdict on a gradient from losses; `taylor` and `missed` are those of the tensor where they are worst."""

    outcome: OutcomeName
    summary: Annotated[str, Field(description="One sentence or two for a person.")]
    verdicts: dict[str, JudgedVerdict]
    noise: Annotated[Number, Field(description="Standard deviation of an evaluation of the loss, absolute.")]
    deterministic: Annotated[bool, Field(description="Whether the loss was the same each time at the base.")]
    taylor: Taylor
    missed: MissedRandom | MissedCoordinates
    evaluations: int
