"""The answer of `POST /v1/check`, and the catalogues.

These are types of plain dictionaries. The service writes a report once, and validating it on its way out would gain
nothing. The JSON Schema in `/openapi.json` comes from them all the same.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema
from typing_extensions import NotRequired, TypedDict

from schemas.tensor import NONFINITE_SPELLINGS, make_tensor_schema

Number = Annotated[
    float | str,
    WithJsonSchema(
        {
            "anyOf": [{"type": "number"}, {"enum": list(NONFINITE_SPELLINGS)}],
            "description": "A number; NaN and the infinities are spelled as strings.",
        }
    ),
]
Values = Annotated[Any, WithJsonSchema(make_tensor_schema(finite=False))]
Index = list[int]
OutcomeName = Literal["pass", "fail", "inconclusive"]


RouteName = Literal["analytic", "autograd", "finite_difference"]


class DisputeReport(TypedDict):
    """Elements at which the routes of the service disagree among themselves: a bug of the service."""

    elements: int
    agree: Annotated[list[RouteName], Field(description="The two routes that agree; empty if no two do.")]
    alone: list[RouteName]


class Loss(TypedDict):
    """The loss by two routes."""

    analytic: Number
    autograd: Number


class Gradient(TypedDict):
    """One gradient by every route."""

    analytic: Values
    autograd: Values
    finite_difference: Values
    error_bound: Values
    candidate: NotRequired[Values]
    allowed: NotRequired[
        Annotated[
            Values, Field(description="What the judged gradient may be off by, where `include` has allowances as well.")
        ]
    ]


class Metrics(TypedDict):
    """The distance of two gradients; the second is the reference."""

    max_abs: Number
    max_rel: Number
    rms: Number
    relative_l2: Number
    cosine: Number
    max_ulp: Number
    worst_index: Index


class Discrepancies(TypedDict):
    """Every pair of routes."""

    analytic_vs_autograd: Metrics
    analytic_vs_finite_difference: Metrics
    autograd_vs_finite_difference: Metrics
    candidate_vs_analytic: NotRequired[Metrics]
    candidate_vs_autograd: NotRequired[Metrics]
    candidate_vs_finite_difference: NotRequired[Metrics]


Elements = TypedDict(
    "Elements",
    {"total": int, "pass": int, "negligible": int, "fail": int, "inconclusive": int, "not_examined": int},
)
"""Counts of elements by outcome."""


class WorstElement(TypedDict):
    """One element, with all numbers of its outcome."""

    index: Index
    route: Literal["candidate", "analytic", "autograd"]
    reference: Annotated[Number, Field(description="The finite difference.")]
    judged: Number
    error_bound: Number
    allowed: Number
    ratio: Annotated[Number, Field(description="abs(judged - reference) / allowed")]
    outcome: OutcomeName


class Kink(TypedDict):
    """An element at which the loss has no derivative, with both one-sided ones."""

    index: Index
    left: Number
    right: Number


class Diagnosis(TypedDict):
    """A bug that would have produced the candidate."""

    name: str
    explanation: str
    fit: Number


Pattern = Annotated[
    str,
    Field(
        description="Wrong elements in words, and what they have in common, where the gradient fails and its elements "
        "were judged one by one.",
        examples=["one element, sign flipped: w1[1][1]", "exactly rows 0 to 15"],
    ),
]


class DirectionReport(TypedDict):
    """One random direction d, a standard Gaussian, with all numbers of its outcome."""

    reference: Annotated[Number, Field(description="The finite difference of the loss along d.")]
    judged: Annotated[Number, Field(description="The inner product of the judged gradient with d.")]
    route: Literal["candidate", "analytic", "autograd"]
    error_bound: Number
    allowed: Number
    outcome: OutcomeName


class JointDirectionReport(DirectionReport):
    """One random direction of several tensors together, each moved by a scale times a standard Gaussian.

    Its outcome is pass, or inconclusive where tensors had to be told apart.
    """

    names: Annotated[list[str], Field(description="Names of the tensors that move.")]


class MissedInSample(TypedDict):
    """The probability that no examined element is wrong, though some element is."""

    wrong_elements: Annotated[int, Field(description="Number of wrong elements.")]
    probability: float


class MissedAlong(TypedDict):
    """The largest probability that a wrong gradient agrees along every direction."""

    relative_l2: Annotated[Number, Field(description="Norm of the error over the norm of the gradient.")]
    probability: float


class ScaleReport(TypedDict):
    """The factor by which a candidate fits the right gradient best."""

    factor: Number
    allowed: Annotated[Number, Field(description="Distance of the factor from 1 that rounding explains.")]


class Repeatability(TypedDict):
    """How far the runs of a candidate are apart."""

    runs: Annotated[int, Field(description="Number of runs, that of the candidate included.")]
    max_abs: Annotated[Number, Field(description="Largest distance between two runs of an element.")]
    explained: Annotated[bool, Field(description="Whether roundings in another order explain it.")]


class Verdict(TypedDict):
    """The verdict on one gradient."""

    outcome: OutcomeName
    reason: str
    elements: Elements
    smallest_detectable_error: Annotated[
        Number,
        Field(
            description="Relative error that would have been found in any element that passes, is not negligible and "
            "lies at no kink: what a pass is worth."
        ),
    ]
    worst: list[WorstElement]
    kinks: Annotated[list[Kink], Field(description="The first thousand.")]
    diagnoses: list[Diagnosis]
    pattern: NotRequired[Pattern]
    directions: NotRequired[
        Annotated[
            list[DirectionReport],
            Field(
                description="Directions of this tensor alone. Only with projections, and only where no joint direction "
                "decides."
            ),
        ]
    ]
    missed: NotRequired[MissedInSample | MissedAlong]
    repeatability: NotRequired[
        Annotated[Repeatability, Field(description="With repeats: what differs from run to run.")]
    ]
    scale: NotRequired[
        Annotated[
            ScaleReport,
            Field(description="Of a candidate whose program rounds on the way: the factor of the gradient as a whole."),
        ]
    ]


class Intermediate(TypedDict):
    """A node's value and the loss's gradient with respect to it."""

    value: Values
    analytic: Values
    autograd: Values


class Stages(TypedDict):
    """Seconds by stage."""

    analytic: float
    autograd: float
    finite_difference: float
    verdict: float
    diagnosis: float


class Cost(TypedDict):
    """The cost of the check."""

    loss_evaluations: int
    seconds: float
    stages: Stages


class Model(TypedDict):
    """The graph, with every default spelled out."""

    nodes: list[dict[str, Any]]


class ChosenMethod(TypedDict):
    """The settings of the differences that the method auto chose: random directions if there are projections."""

    method: Literal["adaptive"]
    projections: NotRequired[int]


class CheckReport(TypedDict):
    """Three gradients, their discrepancies, and a verdict."""

    outcome: OutcomeName
    summary: Annotated[str, Field(description="One sentence for a person.")]
    loss: Loss
    gradients: dict[str, Gradient]
    discrepancies: dict[str, Discrepancies]
    verdicts: dict[str, Verdict]
    intermediates: dict[str, Intermediate]
    cost: Cost
    model: Model
    model_text: Annotated[str, Field(description="The graph as text, a node a line, without the defaults.")]
    judged_as: NotRequired[
        Annotated[str, Field(description="With candidate_dtype a recipe: the places where the candidate rounds.")]
    ]
    finite_difference: NotRequired[
        Annotated[ChosenMethod, Field(description="With the method auto: the settings that it chose.")]
    ]
    directions: NotRequired[
        Annotated[
            list[JointDirectionReport],
            Field(description="Joint directions, with projections; none where the point allows none."),
        ]
    ]
    disputes: NotRequired[
        Annotated[
            dict[str, list[DisputeReport]],
            Field(description="Disagreements among the routes of the service, by name; left out without any."),
        ]
    ]


class OpInput(TypedDict):
    """One input of an op."""

    name: str
    optional: bool
    several: Annotated[bool, Field(description="Whether it takes any number of tensors, at least one.")]
    of: Annotated[list[str], Field(description="Kinds of values: float, index (integers) or bool.")]


class OpOutput(TypedDict):
    """One output of an op."""

    name: Annotated[
        str | None,
        Field(
            description="Name behind that of the node, as values in top.values; null for the only output, which has "
            "the name of the node; * for numbers from 0, as in parts.0, of outputs whose number follows from shapes."
        ),
    ]
    of: Annotated[str, Field(description="Kind of values: float, index (integers) or bool.")]


class OpBugEntry(TypedDict):
    """A bug of the backward pass of an op."""

    name: str
    explanation: Annotated[str, Field(description="A clause for what was done.")]


class OpEntry(TypedDict):
    """An op of the model language."""

    name: str
    inputs: list[OpInput]
    outputs: Annotated[
        list[OpOutput],
        Field(description="Outputs; those with names where the attributes lead to several, as dim does for max."),
    ]
    attributes: Annotated[dict[str, Any], Field(description="JSON Schema.")]
    inner_casts: Annotated[
        list[str],
        Field(description="Places inside the op at which programs round: the casts of a recipe name them node.place."),
    ]
    backward: Annotated[str, Field(description="The derivation.")]
    bugs: Annotated[
        list[OpBugEntry],
        Field(description="Bugs of its backward pass that a check names, in all its forms, such as those of a tensor."),
    ]


class OpsAnswer(TypedDict):
    """All ops."""

    ops: list[OpEntry]


class ModelEntry(TypedDict):
    """A preset, with its model as text; its request can be posted as it is."""

    name: str
    description: str
    request: dict[str, Any]
    text: str


class ModelsAnswer(TypedDict):
    """All presets."""

    models: list[ModelEntry]


class Health(TypedDict):
    """State of the service."""

    status: Literal["live", "ready"]
    jobs: NotRequired[Annotated[str, Field(description="Why jobs wait, if they do.")]]
