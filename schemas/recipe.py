"""Arithmetics of a candidate: a name, or a recipe of the places where its program rounds."""

from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen
from pydantic import Discriminator, Field, Tag

from schemas.problem_details import MAX_NAME_LENGTH
from schemas.strict_model import StrictModel

Arithmetic = Literal["FP64", "FP32", "TF32", "FP16", "BF16", "float64", "float32", "float16", "bfloat16"]
RoundedArithmetic = Literal[Arithmetic, "FP8_E4M3", "FP8_E5M2", "float8_e4m3fn", "float8_e5m2"]
CastName = Annotated[str, MinLen(1), MaxLen(MAX_NAME_LENGTH + 2)]
"""Name of a node, of a place inside it, `att.p`, or, behind `d:`, of the gradient at it."""


def _get_casts_tag(value: object) -> str | None:
    return "word" if isinstance(value, str) else "places" if isinstance(value, dict) else None


Casts = Annotated[
    Annotated[dict[CastName, RoundedArithmetic], Tag("places")] | Annotated[Literal["every_node", "none"], Tag("word")],
    Discriminator(
        _get_casts_tag,
        custom_error_type="casts",
        custom_error_message="must be every_node, none, or an object of arithmetics by place",
    ),
]


class RecipeSpec(StrictModel):
    """The places where a program rounds, and their arithmetics."""

    inputs: RoundedArithmetic | None = Field(
        default=None,
        description="Arithmetic to which all tensors and weights are rounded before anything else, for all routes; "
        "by default they are taken as they are. FP8 is scaled: the largest number of a tensor becomes that of FP8.",
    )
    accumulate: RoundedArithmetic = Field(default="FP32", description="Arithmetic inside each node.")
    casts: Casts = Field(
        default="none",
        description='What is rounded on the way: values by the name of their node, gradients as "d:name", and places '
        'inside a node, "att.p", which GET /v1/ops names. With every_node all values and gradients are rounded to '
        "output.",
    )
    output: RoundedArithmetic | None = Field(
        default=None,
        description="Arithmetic to which the candidate itself is rounded; by default that of accumulate.",
    )
    products: RoundedArithmetic | None = Field(
        default=None, description="Arithmetic to which the factors of products of matrices are rounded, as TF32."
    )


def _get_arithmetic_tag(value: object) -> str | None:
    return "name" if isinstance(value, str) else "recipe" if isinstance(value, dict) else None


CandidateArithmetic = Annotated[
    Annotated[Arithmetic, Tag("name")] | Annotated[RecipeSpec, Tag("recipe")],
    Discriminator(
        _get_arithmetic_tag,
        custom_error_type="arithmetic",
        custom_error_message="must be the name of an arithmetic, or an object with inputs, accumulate, casts, output "
        "and products",
    ),
]
