"""`POST /v1/check`, the request."""

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from schemas.model_text import TextNodes
from schemas.problem_details import MAX_NAME_LENGTH
from schemas.recipe import CandidateArithmetic
from schemas.strict_model import Name, StrictModel
from schemas.tensor import GradientTensor, OperandTensor, RepeatedTensor

DtypeName = Literal["float64", "float32", "float16", "bfloat16"]
RequestedEncoding = Literal["nested", "b64"]
ReportPart = Literal["gradients", "allowances", "intermediates"]
NotNegative = Annotated[float, Ge(0)]


def _validate_inputs(value: Any) -> Any:
    operands = list(cast("dict[str, Any]", value).values()) if isinstance(value, dict) else value
    if not isinstance(operands, list) or not all(map(_is_operand, cast("list[Any]", operands))):
        raise PydanticCustomError(
            "inputs",
            "inputs must be a list in PyTorch's parameter order, or an object by parameter name, "
            "of names (200 characters at most) and finite numbers, null for what is left out; "
            "a list of them where an op takes several tensors",
        )
    return cast("Any", value)


def _is_operand(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_is_single_operand, cast("list[Any]", value)))
    return value is None or _is_single_operand(value)


def _is_single_operand(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return abs(value) <= sys.float_info.max
    return isinstance(value, str) and len(value) <= MAX_NAME_LENGTH


_SINGLE_SCHEMA: dict[str, Any] = {"type": ["string", "number"]}
_OPERAND_SCHEMA: dict[str, Any] = {
    "anyOf": [_SINGLE_SCHEMA, {"type": "null"}, {"type": "array", "items": _SINGLE_SCHEMA}]
}
Inputs = Annotated[
    Any,
    BeforeValidator(_validate_inputs),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": _OPERAND_SCHEMA},
                {"type": "object", "additionalProperties": _OPERAND_SCHEMA},
            ],
            "description": "Names of tensors, weights or nodes, and constant numbers: a list in the order of PyTorch's "
            "parameters, or an object by parameter name; null for an optional one that is left out. "
            "A list of them where an op takes several tensors.",
        }
    ),
]


_MAX_INTEGER = 2**63
"""First whole number beyond 64 bits."""


class NodeBase(StrictModel):
    """A node of a graph, with the fields that all ops share."""

    name: Name
    inputs: Inputs

    @field_validator("*")
    @classmethod
    def _refuse_long_integers(cls, value: Any) -> Any:
        # No op takes them, and neither JSON text nor NumPy has them.
        if _has_long_integer(value):
            raise PydanticCustomError("long_integer", "a whole number beyond 64 bits")
        return value


def _has_long_integer(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_long_integer, cast("Sequence[Any]", value)))
    return isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER


NodeT = TypeVar("NodeT")


class GraphSpec(StrictModel, Generic[NodeT]):
    """A model as a graph. The last listed node is the loss; the others may come in any order."""

    nodes: Annotated[list[NodeT], MinLen(1)]


class FiniteDifferenceSpec(StrictModel):
    """The method of the finite differences."""

    method: Literal["adaptive", "auto", "central", "forward"] = Field(
        default="adaptive",
        description="auto is adaptive: of all elements where the limits allow, else along random directions. The "
        "report's finite_difference says which.",
    )
    step: Annotated[float, Gt(0), Le(1e300)] | None = Field(
        default=None, description="The step, for central and forward only."
    )
    sample: Annotated[int, Ge(1)] | None = Field(default=None, description="Number of random elements of each tensor.")
    projections: Annotated[int, Ge(1)] | None = Field(
        default=None,
        description="Number of random directions for each tensor instead of its elements; not together with sample. "
        "With method auto: those that it takes where the limits do not allow all elements, 4 by default.",
    )
    joint: bool = Field(
        default=True,
        description="With projections: whether each direction moves all tensors together. Tensors that this does not "
        "decide move along directions of their own, as all do without it, with another method than adaptive, with a "
        "tolerance and with more than 100 directions.",
    )


class ToleranceSpec(StrictModel):
    """Pass if abs(c - g) <= atol + rtol abs(g)."""

    rtol: NotNegative = 0.0
    atol: NotNegative = 0.0


def _get_model_tag(value: object) -> str | None:
    if isinstance(value, str):
        return "preset"
    return "graph" if isinstance(value, dict) else "nodes" if isinstance(value, list) else None


_Tensors = dict[Name, OperandTensor]
_Candidate = dict[Name, GradientTensor] | None
_Repeats = dict[Name, RepeatedTensor] | None


class CheckTensors(StrictModel):
    """The tensors of a request alone: what changes from one check of a model to the next."""

    tensors: _Tensors
    weights: _Tensors
    candidate: _Candidate = None
    repeats: _Repeats = None


TENSOR_FIELDS = tuple(CheckTensors.model_fields)
"""Fields of a request that hold tensors by name."""


class CheckRequest(StrictModel, Generic[NodeT]):
    """A model with its tensors and weights, and the gradients to check."""

    tensors: _Tensors = Field(description="Inputs, targets and masks, by name.")
    weights: _Tensors = Field(description="Trained tensors, by name; may be empty.")
    model: Annotated[
        Annotated[str, Tag("preset")]
        | Annotated[GraphSpec[NodeT], Tag("graph")]
        | Annotated[list[NodeT], MinLen(1), Tag("nodes")],
        Discriminator(
            _get_model_tag,
            custom_error_type="model",
            custom_error_message="must be the name of a preset, a text with a node a line, a list of nodes, or an "
            "object with nodes",
        ),
    ] = Field(
        default="conv_tanh_scale_sigmoid",
        description="A preset's name; or a graph, as nodes, or as a text with a node a line: h = linear(x, w, b). The "
        "last node is the loss. A text is told from a preset's name by its =.",
    )
    with_respect_to: list[Name] | None = Field(
        default=None, description="Weights, float tensors or nodes; every weight if left out."
    )
    candidate: _Candidate = Field(
        default=None,
        description="The client's own gradients, by name; each is judged in place of the two of the service.",
    )
    candidate_dtype: CandidateArithmetic | None = Field(
        default=None,
        description="Arithmetic of the candidate, which sets its rounding allowance: a name, for what PyTorch's eager "
        "kernels do, or a recipe of the places where its program rounds.",
    )
    repeats: _Repeats = Field(
        default=None,
        description="Further runs of the program that computed the candidate, by name: lists of tensors. What differs "
        "from run to run beyond rounding is a finding.",
    )
    dtype: DtypeName = Field(default="float64", description="Dtype of the analytic and autograd routes.")
    finite_difference: FiniteDifferenceSpec = FiniteDifferenceSpec()
    tolerance: ToleranceSpec | None = Field(default=None, description="Replaces the automatic tolerance.")
    include: list[ReportPart] = Field(default=["gradients"])
    encoding: RequestedEncoding = Field(default="nested", description="Encoding of the tensors of the answer.")
    seed: Annotated[int, Ge(0), Le(2**63 - 1)] = Field(default=0, description="Seed of everything random.")
    _text_nodes: TextNodes | None = PrivateAttr(default=None)

    @property
    def text_nodes(self) -> TextNodes | None:
        """Nodes of a model that came as text, with their places."""
        return self._text_nodes

    def remember_text(self, nodes: TextNodes) -> None:
        """Remember the places of the nodes of a text, for errors found later."""
        self._text_nodes = nodes
