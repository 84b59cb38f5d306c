"""Evaluation of the operators of an exported program at the point, and refusals of what no graph can hold."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import MINUS_INFINITY_LIMIT, GraphTensor, UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import call_operator, get_value
from gradcheckd.torch.export_internals import OpOverload, pytree
from gradcheckd.torch.module_errors import ModuleImportError

_KEEPS_MINUS_INFINITY = frozenset(
    f"aten.{name}"
    for name in (
        *("view", "_unsafe_view", "reshape", "expand", "permute", "transpose", "unsqueeze", "squeeze", "t", "clone"),
        *("alias", "_to_copy", "slice", "select", "narrow", "cat", "stack", "split", "split_with_sizes", "unbind"),
        *("index", "index_select", "gather", "flip", "repeat", "where", "masked_fill", "add", "sub", "constant_pad_nd"),
        *("softmax", "_softmax", "log_softmax", "_log_softmax", "logsumexp", "amax", "max", "maximum", "topk", "sort"),
        *("scaled_dot_product_attention", "slice_scatter", "select_scatter", "contiguous", "index_put", "copy"),
        *("scatter", "masked_scatter", "tril", "triu", "dropout", "native_dropout", "exp"),
    )
)
"""Operators that treat a large negative number as minus infinity, or only hand it on."""

_UNKNOWN = "?"
"""Name of a result that no node has."""
_RAW_MEMORY = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"})


def bind_arguments(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names of the schema, with its defaults."""
    schema = operator._schema.arguments
    given = dict(zip((argument.name for argument in schema), args, strict=False)) | dict(kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in schema}


def compute_constant(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the result of a function that depends on no judged tensor, as the module computes it."""
    if isinstance(target, OpOverload):
        refuse_random(target, bind_arguments(target, args, kwargs))
    try:
        with torch.no_grad():
            return clear_memory(target, target(*args, **kwargs))
    except Exception as error:
        raise UnsupportedError(f"it fails on its own: {type(error).__name__}") from error


def compute_frozen(operator: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the result of an operator whose arguments have become constants."""
    try:
        with torch.no_grad():
            return clear_memory(operator, call_operator(operator, arguments))
    except Exception as error:
        raise UnsupportedError(f"it fails on its own: {type(error).__name__}") from error


def clear_memory(operator: Any, result: Any) -> Any:
    """Return a result with zeros in the place of memory as it was, which a module overwrites before it reads."""
    is_raw = isinstance(operator, OpOverload) and operator.overloadpacket.__name__ in _RAW_MEMORY
    return result.zero_() if is_raw else result


def refuse_random(operator: Any, arguments: Mapping[str, Any]) -> None:
    """Refuse operators that draw random numbers, of which the module draws others in each pass."""
    name = str(operator.overloadpacket)
    if name.endswith("dropout"):
        if arguments.get("train") is not False and arguments.get("p"):
            raise UnsupportedError("it draws random numbers: call .eval(), or set its probability to 0")
    elif torch.Tag.nondeterministic_seeded in operator.tags and not _draws_nothing(name, arguments):
        raise UnsupportedError("it draws random numbers")


def _draws_nothing(name: str, arguments: Mapping[str, Any]) -> bool:
    if "rrelu" in name:
        return not arguments.get("training")
    if arguments.get("num_layers") is not None:
        return not (arguments.get("train") and arguments.get("dropout"))
    return "attention" in name and not arguments.get("dropout_p")


def widen(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of arguments in float64 on the processor, and no request for another datatype or device."""
    return {name: pytree.tree_map(_widen_value, value) for name, value in arguments.items()}


def _widen_value(value: Any) -> Any:
    number = get_value(value)
    if isinstance(number, Tensor):
        number = number.detach().cpu()
        return number.double() if number.is_floating_point() else number
    if isinstance(number, torch.dtype):
        return torch.float64 if number.is_floating_point else number
    return torch.device("cpu") if isinstance(number, torch.device) else number


def refuse_unfit(result: Any) -> None:
    """Refuse a result that no node can have."""
    leaves = pytree.tree_leaves(result)
    if isinstance(leaves[0], Tensor) and bool((leaves[0].isnan() | (leaves[0] == math.inf)).any()):
        raise UnsupportedError("its result is NaN or infinite at the point")
    if isinstance(leaves[0], Tensor) and not any(leaf.numel() for leaf in leaves if isinstance(leaf, Tensor)):
        raise UnsupportedError("a tensor without elements")


def refuse_other_numbers(values: Any) -> None:
    """Refuse complex and sparse results, given as an exported program records them."""
    for leaf in pytree.tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.is_complex():
            raise UnsupportedError("complex numbers")
        if isinstance(leaf, Tensor) and leaf.layout is not torch.strided:
            raise UnsupportedError("a sparse tensor")


def list_dtypes(values: Any) -> set[torch.dtype]:
    """Return the datatypes of the tensors of floats among values."""
    leaves = pytree.tree_leaves(values)
    return {leaf.dtype for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()}


def refuse_infinities(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse minus infinity in an argument of an operator for which a large negative number is something else."""
    if name in _KEEPS_MINUS_INFINITY:
        return
    for leaf in pytree.tree_leaves(dict(arguments)):
        number = get_value(leaf)
        is_tensor = isinstance(number, Tensor) and number.is_floating_point()
        if is_tensor and bool((number.double() < MINUS_INFINITY_LIMIT).any()):
            raise UnsupportedError("minus infinity reaches it")


def is_guess(value: Any) -> bool:
    """Tell whether a value stands for a result of which no more than the shape is known."""
    return isinstance(value, GraphTensor) and value.name == _UNKNOWN


def guess_result(node: Any) -> Any:
    """Return a result of the recorded shapes for a node that has no counterpart, so that the walk can go on."""

    def make(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        shape = [int(size) for size in value.shape]
        if value.is_floating_point() or value.is_complex():
            return GraphTensor(_UNKNOWN, torch.full(shape, 0.5, dtype=torch.float64))
        return torch.zeros(shape, dtype=value.dtype)

    try:
        return pytree.tree_map(make, node.meta.get("val"))
    except Exception as error:
        raise ModuleImportError(
            f"The module has {node.target}, whose result has a size that depends on data."
        ) from error
