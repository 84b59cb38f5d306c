"""The parts of a plan and of a judgement that vector-valued functions add."""

from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, Field, GetPydanticSchema, WithJsonSchema
from pydantic_core import core_schema
from typing_extensions import NotRequired, TypedDict

from schemas.problem_details import MAX_NAME_LENGTH
from schemas.raw_tensor import MAX_DIMENSIONS, make_tensor_error, validate_shape
from schemas.report import (
    Diagnosis,
    Elements,
    MissedAlong,
    MissedInSample,
    Number,
    OutcomeName,
    Pattern,
    WorstElement,
)
from schemas.strict_model import Name
from schemas.tensor import AnyTensor, Tensor, make_tensor_schema

JudgementPart = Literal["derivatives"]

_SLASH_MESSAGE = "has a slash; name it without one, since verdicts are named output/tensor"


def _refuse_slash(name: str) -> str:
    if "/" in name:
        raise make_tensor_error(_SLASH_MESSAGE)
    return name


OutputName = Annotated[
    Name,
    AfterValidator(_refuse_slash),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": "^[^/]+$"}),
]
OutputShape = Annotated[
    Any,
    GetPydanticSchema(lambda source, handler: core_schema.no_info_plain_validator_function(validate_shape)),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "maxItems": MAX_DIMENSIONS,
            "description": "Sizes of the output; [] for a number.",
        }
    ),
]
OutputShapes = Annotated[dict[OutputName, OutputShape], MinLen(1)]
Cotangents = Annotated[dict[OutputName, Tensor], MinLen(1)]

_TENSOR_SCHEMA = make_tensor_schema(finite=False)
OutputValues = Annotated[
    Any,
    # `service.checks.blackbox.values` validates the value of each point, with its number.
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"anyOf": [*_TENSOR_SCHEMA["anyOf"], {"type": "null"}]}},
                *_TENSOR_SCHEMA["anyOf"],
            ],
            "description": "Tensors of all points in order, null where the function has no value; or one tensor with "
            "the points along its first dimension.",
        }
    ),
]
Values = Annotated[dict[OutputName, OutputValues], MinLen(1)]
VectorProducts = Annotated[dict[OutputName, Annotated[dict[Name, AnyTensor], MinLen(1)]], MinLen(1)]
DirectionalProducts = Annotated[dict[OutputName, AnyTensor], MinLen(1)]

AnyAnswerTensor = Annotated[Any, WithJsonSchema(_TENSOR_SCHEMA)]


class SingleElement(TypedDict):
    """The probability that one wrong element passes."""

    relative_error: Annotated[Number, Field(description="Its error, relative to itself.")]
    probability: float


class MissedProduct(MissedInSample):
    """The misses of a Jacobian, or of its products: elements that were not moved, and a single error below noise."""

    single_element: NotRequired[SingleElement]


class JudgedProduct(TypedDict):
    """The verdict on a Jacobian, or on Jacobian-vector products, element by element of the output."""

    outcome: OutcomeName
    reason: str
    elements: Elements
    smallest_detectable_error: Annotated[Number, Field(description="Relative error of an element that matters.")]
    worst: Annotated[
        list[WorstElement],
        Field(
            description="The worst elements. The index of a Jacobian is that of the output, then that of the tensor; "
            "of Jacobian-vector products, the direction, then that of the output."
        ),
    ]
    diagnoses: list[Diagnosis]
    pattern: NotRequired[Pattern]
    noise: Annotated[
        Number, Field(description="Standard deviation of an evaluation of the output, absolute; the largest.")
    ]
    missed: Annotated[
        MissedProduct | MissedAlong, Field(description="Along random directions, of a row of the Jacobian.")
    ]
    without_value: Annotated[int, Field(description="Points of these directions at which the output has no value.")]


class DotTestEntry(TypedDict):
    """A vector-Jacobian product and a Jacobian-vector product against each other."""

    name: Annotated[str, Field(description="Names of the output and the tensor, output/tensor.")]
    direction: Annotated[int, Field(description="Direction of the tensor with the largest difference.")]
    vjp: Annotated[Number, Field(description="Inner product of the vector-Jacobian product with the tangent.")]
    jvp: Annotated[Number, Field(description="Inner product of the cotangent with the Jacobian-vector product.")]
    allowed: Annotated[Number, Field(description="The largest difference that rounding explains.")]
    outcome: OutcomeName


class NumericalDerivative(TypedDict):
    """A numerical derivative, element by element, with its error bounds."""

    value: Annotated[AnyAnswerTensor, Field(description="The derivative; NaN where it was not examined.")]
    error_bound: Annotated[AnyAnswerTensor, Field(description="Its error bounds; Infinity where it was not examined.")]
