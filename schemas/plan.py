"""`POST /v1/plan` and `POST /v1/judge`: the check of a loss of the client."""

from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import Field, GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema
from typing_extensions import NotRequired, TypedDict

from schemas.check import RequestedEncoding, ToleranceSpec
from schemas.outputs import (
    Cotangents,
    DirectionalProducts,
    DotTestEntry,
    JudgedProduct,
    JudgementPart,
    NumericalDerivative,
    OutputName,
    OutputShape,
    OutputShapes,
    SingleElement,
    Values,
    VectorProducts,
)
from schemas.recipe import Arithmetic
from schemas.report import (
    Diagnosis,
    Elements,
    Index,
    MissedAlong,
    MissedInSample,
    Number,
    OutcomeName,
    Pattern,
    WorstElement,
)
from schemas.strict_model import Name, StrictModel
from schemas.tensor import NONFINITE_SPELLINGS, AnyTensor, Tensor, make_tensor_schema

PLAN_VERSION = 3
MAX_DIRECTIONS = 2**31 - 1

Points = Annotated[dict[Name, Tensor], MinLen(1)]
Losses = Annotated[
    Any,
    # `service.checks.blackbox.losses` validates each loss, with its point.
    GetPydanticSchema(lambda source, handler: core_schema.list_schema(strict=True)),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"anyOf": [{"type": "number"}, {"type": "null"}, {"enum": list(NONFINITE_SPELLINGS)}]},
            "description": "The loss at each point, in order; null at a point without a value, but not at the base "
            "(the first three). A loss that is not finite is refused with its point.",
        }
    ),
]


Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class DirectionsSpec(StrictModel):
    """The directions of the differences."""

    kind: Literal["coordinates", "random"] = Field(
        default="random",
        description="Of single elements, or random ones of whole tensors.",
        examples=["random"],
    )
    count: Annotated[int, Ge(1), Le(MAX_DIRECTIONS)] | None = Field(
        default=None, description="Directions of each tensor; by default 4 random ones, or all of its elements."
    )


class BoundsSpec(StrictModel):
    """Bounds of one tensor, within which the loss has a value; infinite by default."""

    min: AnyTensor = Field(
        default_factory=lambda: Tensor(np.array(-np.inf), None, is_integral=False),
        description="A number, or a tensor of the point's shape; no element is moved below it.",
    )
    max: AnyTensor = Field(
        default_factory=lambda: Tensor(np.array(np.inf), None, is_integral=False), description="As min, above."
    )


class PlanRequest(StrictModel):
    """The point of a judgement, and the moves from it."""

    point: Points = Field(
        description="Tensors of floats, by name: the point of the gradient.",
        examples=[{"w1": [[0.1, -0.1], [0.2, 0.001]]}],
    )
    directions: DirectionsSpec = DirectionsSpec()
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = Field(default=0, description="Seed of everything random.")
    scale: dict[Name, Tensor] | None = Field(
        default=None,
        description="How far to move each tensor, by name: a number, or one for each element in a tensor of its shape. "
        "The largest step is 1/8 of it (FP16: 1/4, BF16: 1/2), along random directions times a random number; taken "
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
    outputs: OutputShapes | None = Field(
        default=None,
        description="Shapes of the outputs of a vector-valued function, by name. The answer then has cotangents and "
        "tangents too. Without outputs, the function is a loss.",
        examples=[{"y": [2, 3]}],
    )
    cotangents: Cotangents | None = Field(
        default=None,
        description="Your own cotangents by the name of the output, in place of `outputs`; by default random ones.",
    )
    evaluations: Literal["full", "few"] = Field(
        default="full",
        description="few: some of the evaluations first. If these do not suffice for a pass, the judgement is `more`, "
        "with the other points.",
    )
    encoding: RequestedEncoding = Field(default="nested", description="Encoding of the points of the answer.")


class SealedDirections(StrictModel):
    """Directions of a plan."""

    kind: Literal["coordinates", "random"]
    count: Annotated[int, Ge(1), Le(MAX_DIRECTIONS)]


class Plan(StrictModel):
    """A plan, which the client returns unchanged."""

    version: int
    seed: Annotated[str, Field(pattern="^(0|[1-9][0-9]{0,18})$")] = Field(
        description="Digits in a string: not every language has integers of 63 bits."
    )
    order: list[Name] = Field(
        default_factory=list[Name],
        description="Names of the tensors in the order of the request, which the points follow.",
    )
    directions: SealedDirections
    point: Points
    scale: dict[Name, Tensor]
    bounds: dict[Name, BoundsSpec] = Field(default_factory=dict[Name, BoundsSpec])
    output_order: list[OutputName] = Field(
        default_factory=list[str], description="Names of the outputs in the order of the request, which reports follow."
    )
    outputs: dict[OutputName, OutputShape] = Field(
        default_factory=dict[str, Any], description="Shapes of the outputs of the function, by name; none of a loss."
    )
    cotangents: dict[OutputName, Tensor] = Field(
        default_factory=dict[str, Tensor], description="Cotangents of the outputs, by name."
    )
    evaluations: Annotated[int, Ge(1)]
    first_evaluations: Annotated[int, Ge(1)] | None = Field(
        default=None, description="Evaluations of the first look, if the plan has one."
    )
    checks: dict[str, str] = Field(description="Checksums of its other parts.")


class JudgeRequest(StrictModel):
    """Losses or values at the points of a plan, and the derivatives to judge by them."""

    plan: Plan | None = Field(
        default=None, description="The plan of `POST /v1/plan`, or of a judgement that is `more`."
    )
    plan_request: PlanRequest | None = Field(
        default=None,
        description="In place of a plan: the request for it, from which the client made the points itself by the "
        "published rule. `encoding` has no meaning in it.",
    )
    digest: Digest | None = Field(
        default=None,
        description="SHA-256 of the points whose values are given, point by point, each with its tensors in the order "
        "of the request, and of the cotangents: all numbers as float64, little-endian, row-major, 0 for -0. Required "
        "with plan_request.",
    )
    losses: Losses | None = Field(
        default=None,
        description="The losses, of a plan without outputs.",
    )
    values: Values | None = Field(
        default=None, description="The values of all outputs by name, of a plan with outputs."
    )
    candidate: dict[Name, AnyTensor] | None = Field(
        default=None,
        description="The client's own gradient of a loss, for each tensor of the plan.",
        examples=[{"w1": [[-0.1342, -0.1833], [-0.2813, -0.3303]]}],
    )
    vjp: VectorProducts | None = Field(
        default=None,
        description="Vector-Jacobian products of outputs with their cotangents: by output, then for each tensor.",
        examples=[{"y": {"w1": [[-0.1342, -0.1833], [-0.2813, -0.3303]]}}],
    )
    jvp: DirectionalProducts | None = Field(
        default=None,
        description="Jacobian-vector products with the tangents, by output: the directions come first.",
    )
    jacobian: VectorProducts | None = Field(
        default=None,
        description="Jacobians, by output, then for each tensor, of the shape of the output and then that of the "
        "tensor. They need directions of kind coordinates, and stand in place of vjp.",
    )
    include: list[JudgementPart] = Field(
        default_factory=list[JudgementPart],
        description="derivatives: numerical derivatives with their error bounds, of directions of kind coordinates. "
        "With them, nothing need be judged.",
    )
    encoding: RequestedEncoding = Field(default="nested", description="Encoding of the derivatives of the answer.")
    candidate_dtype: Arithmetic | None = Field(
        default=None,
        description="Arithmetic in which the judged derivatives were computed; by default their datatype, or else the "
        "point's.",
    )
    tolerance: ToleranceSpec | None = Field(
        default=None,
        description="Replaces what the candidate may be off by, as in a check: along a line with the derivative g it "
        "passes if it is off by at most atol + rtol abs(g), and is inconclusive where the error bound exceeds that.",
    )
    relative_error: Annotated[float, Gt(0), Le(1e6)] = Field(
        default=1e-4,
        description="Relative error of one element, whose probability to be missed is in `missed.single_element`.",
    )


FiniteAnswerTensor = Annotated[Any, WithJsonSchema(make_tensor_schema(finite=True))]


class PlanAnswer(TypedDict):
    """The points of evaluation."""

    plan: Annotated[dict[str, Any], Field(description="The plan for `POST /v1/judge`, to be returned unchanged.")]
    evaluations: Annotated[int, Field(description="Number of points.")]
    order: Annotated[list[str], Field(description="Names of the tensors, in the order of the request.")]
    points: Annotated[
        list[dict[str, FiniteAnswerTensor]],
        Field(description="Tensors of each point, by name."),
    ]
    cotangents: NotRequired[
        Annotated[dict[str, FiniteAnswerTensor], Field(description="Cotangents of the outputs, by name.")]
    ]
    tangents: NotRequired[
        Annotated[
            list[dict[str, FiniteAnswerTensor]],
            Field(
                description="Tangents of the directions: tensors in the order of the request, then the direction. Each "
                "has the one tensor that its direction moves; the others are 0."
            ),
        ]
    ]


class JudgedDirection(TypedDict):
    """One direction, with all numbers of its outcome."""

    index: NotRequired[
        Annotated[Index, Field(description="Index of the element, if the direction moves a single one.")]
    ]
    reference: Annotated[Number, Field(description="The derivative of the loss, from differences.")]
    judged: Annotated[Number, Field(description="The derivative by the candidate.")]
    route: Literal["candidate"]
    error_bound: Number
    allowed: Number
    outcome: OutcomeName


class MissedRandom(MissedAlong):
    """The misses of random directions: any error at most, a single wrong element exactly."""

    single_element: SingleElement


class MissedCoordinates(MissedInSample):
    """The misses of coordinates: elements that were not moved, and a single error below noise."""

    single_element: SingleElement


class Taylor(TypedDict):
    """The remainder R(h) = f(x + h v) - f(x) - h c . v along the worst direction."""

    name: NotRequired[Annotated[str, Field(description="Name of the tensor, in the entry of the whole report.")]]
    direction: Annotated[int, Field(description="Position of the direction in `directions`.")]
    steps: Annotated[list[float], Field(description="h, in units of the scale.")]
    remainders: list[Number]
    slope: Annotated[
        Number,
        Field(
            description="Slope of log abs(R) against log h: 2 for a right gradient, 1 for a wrong one, NaN below "
            "the noise."
        ),
    ]
    intercept: Annotated[
        Number, Field(description="The part of R that grows like h, (reference - judged) / abs(judged), with its sign.")
    ]
    factor: Annotated[Number, Field(description="reference / judged: -1 for a wrong sign.")]


class JudgedVerdict(TypedDict):
    """The verdict on one gradient."""

    outcome: OutcomeName
    reason: str
    elements: Elements
    smallest_detectable_error: Annotated[
        Number, Field(description="Relative error of an element that matters; of random directions, of the norm.")
    ]
    worst: Annotated[list[WorstElement], Field(description="The worst elements; none with random directions.")]
    diagnoses: list[Diagnosis]
    pattern: NotRequired[Pattern]
    directions: list[JudgedDirection]
    noise: Annotated[Number, Field(description="Standard deviation of an evaluation of the loss, absolute.")]
    taylor: Taylor
    missed: MissedRandom | MissedCoordinates
    without_value: Annotated[int, Field(description="Points of this tensor at which the loss has no value.")]


class FurtherPoints(TypedDict):
    """The answer of a first look that does not suffice: the other points of the plan."""

    outcome: Literal["more"]
    summary: Annotated[str, Field(description="One sentence for a person.")]
    plan: Annotated[dict[str, Any], Field(description="The plan, to be returned with the values at all points.")]
    evaluations: Annotated[int, Field(description="Number of these points.")]
    order: Annotated[list[str], Field(description="Names of the tensors, in the order of the request.")]
    points: Annotated[
        list[dict[str, FiniteAnswerTensor]],
        Field(description="Tensors of each point, by name; their values follow those of the first look."),
    ]


class JudgeReport(TypedDict):
    """The verdict on derivatives by losses or values; `taylor` and `missed` are those of the worst gradient."""

    outcome: OutcomeName
    summary: Annotated[str, Field(description="One sentence or two for a person.")]
    verdicts: Annotated[
        dict[str, JudgedVerdict | JudgedProduct],
        Field(
            description="By the name of the tensor; of outputs by output/tensor (vjp, jacobian), or by output (jvp)."
        ),
    ]
    noise: Annotated[
        Number, Field(description="Standard deviation of an evaluation, absolute; of outputs, the largest.")
    ]
    deterministic: Annotated[bool, Field(description="Whether the function was the same each time at the base.")]
    taylor: NotRequired[Annotated[Taylor, Field(description="Of gradients: of a loss, or of vjp.")]]
    missed: NotRequired[Annotated[MissedRandom | MissedCoordinates, Field(description="Of gradients, as taylor.")]]
    outputs: NotRequired[Annotated[dict[str, list[int]], Field(description="Shapes of the outputs of the plan.")]]
    dot_tests: NotRequired[
        Annotated[list[DotTestEntry], Field(description="vjp and jvp against each other, where both were given.")]
    ]
    derivatives: NotRequired[
        Annotated[
            dict[str, NumericalDerivative],
            Field(description="Numerical derivatives by the name of the tensor, or by output/tensor, if included."),
        ]
    ]
    evaluations: int
