"""An ONNX file: parsed within limits, and refused as a whole where no part of it could be read."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx
from google.protobuf.message import DecodeError

from schemas.problem_details import InvalidRequestError, error_at, quote_name
from service.checks.common.limits import Limits
from service.checks.importing.import_errors import ModelFileError
from service.checks.importing.message_scan import BrokenMessageError, MessageScan, MessageTooLargeError

MIN_OPSET = 7
"""Oldest version of the operators that is taken: older ones broadcast by other rules."""
_FIELDS_PER_NODE, _FIELDS_BESIDE_NODES = 200, 20_000
"""Parts of a file: names, attributes and metadata. Exporters write some hundred for a node at most."""
MAX_OPSET: int = onnx.defs.onnx_opset_version()
DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class ModelFile:
    """A parsed file.

    Attributes
    ----------
    model
        Message of the file.
    opset
        Version of the operators of ONNX.
    functions
        Functions of the file, by domain and name.
    """

    model: onnx.ModelProto
    opset: int
    functions: Mapping[tuple[str, str], onnx.FunctionProto]


def read_model_file(content: bytes, limits: Limits) -> ModelFile:
    """Parse a file.

    Raises
    ------
    InvalidRequestError
        The file is no ONNX model, is too large, or has a version of the operators that is not taken.
    """
    if not content:
        raise _make_error("the body is empty; it must be an ONNX file")
    scan = MessageScan(_FIELDS_BESIDE_NODES + _FIELDS_PER_NODE * limits.nodes, limits.elements)
    try:
        scan.scan(content, onnx.ModelProto.DESCRIPTOR)
        model = onnx.ModelProto.FromString(content)
    except MessageTooLargeError as error:
        raise InvalidRequestError([error_at(f"{error}; import a smaller model")], "over-budget") from None
    except (BrokenMessageError, DecodeError) as error:
        reason = f": {error}" if isinstance(error, BrokenMessageError) else ""
        raise _make_error(f"the body is no ONNX file, or is cut off{reason}") from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise _make_error("the body is no ONNX file, or has no graph with nodes")
    return ModelFile(model, _find_opset(model.opset_import), _list_functions(model))


def _make_error(detail: str, *path: str | int) -> InvalidRequestError:
    return InvalidRequestError([error_at(detail, *path)])


def _find_opset(imports: Iterable[onnx.OperatorSetIdProto]) -> int:
    versions = [entry.version for entry in imports if entry.domain in DEFAULT_DOMAINS]
    if not versions:
        raise _make_error("the file says no version of the operators of ONNX (opset_import)", "opset_import")
    if not MIN_OPSET <= versions[0] <= MAX_OPSET:
        detail = (
            f"the file has opset {versions[0]}; {MIN_OPSET} to {MAX_OPSET} are taken. Export it with one of these, or "
            "convert it with onnx.version_converter"
        )
        raise _make_error(detail, "opset_import")
    return versions[0]


def find_function_opset(function: onnx.FunctionProto, default: int) -> int:
    """Return the version of the operators in the body of a function.

    Raises
    ------
    ModelFileError
        It is not taken.
    """
    versions = [entry.version for entry in function.opset_import if entry.domain in DEFAULT_DOMAINS]
    opset = versions[0] if versions else default
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ModelFileError(
            f"the function {quote_name(function.name)} has opset {opset}; {MIN_OPSET} to {MAX_OPSET} are taken"
        )
    return opset


def _list_functions(model: onnx.ModelProto) -> dict[tuple[str, str], onnx.FunctionProto]:
    functions: dict[tuple[str, str], onnx.FunctionProto] = {}
    for position, function in enumerate(model.functions):
        key = function.domain, function.name
        if key in functions:
            raise _make_error(f"two functions are named {quote_name(function.name)}", "functions", position)
        functions[key] = function
    return functions


def read_static_shape(value: onnx.ValueInfoProto, limits: Limits) -> tuple[int, ...]:
    """Return the shape of an input.

    Raises
    ------
    ModelFileError
        The shape is missing or dynamic, or it is too large.
    """
    name, tensor_type = quote_name(value.name), value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        raise ModelFileError(f"the input {name} is no tensor, but a sequence, an optional value or a map")
    remedy = "Export the model with static shapes (in torch.onnx.export without dynamic_axes or dynamic_shapes)"
    if not tensor_type.HasField("shape"):
        raise ModelFileError(f"the input {name} has no shape. {remedy}")
    for axis, dimension in enumerate(tensor_type.shape.dim):
        if dimension.WhichOneof("value") != "dim_value" or dimension.dim_value < 0:
            symbol = f" ({quote_name(dimension.dim_param)})" if dimension.dim_param else ""
            raise ModelFileError(f"the input {name} has a dynamic shape: axis {axis}{symbol} has no length. {remedy}")
    shape = tuple(dimension.dim_value for dimension in tensor_type.shape.dim)
    check_size(shape, limits, f"the input {name}")
    return shape


def check_size(shape: tuple[int, ...], limits: Limits, what: str) -> None:
    """Refuse a shape of too many elements or dimensions.

    Raises
    ------
    ModelFileError
        With the limit.
    """
    if len(shape) > limits.dimensions:
        raise ModelFileError(f"{what} has {len(shape)} dimensions; at most {limits.dimensions} are taken")
    if any(length < 0 for length in shape):
        raise ModelFileError(f"{what} has an axis of a negative length")
    if math.prod(shape) > limits.elements:
        raise ModelFileError(f"{what} has more than {limits.elements} elements, which is the limit")
