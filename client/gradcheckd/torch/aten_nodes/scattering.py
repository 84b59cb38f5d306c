"""Conversions of sums at repeated indices, which are products with a matrix of zeros and ones."""

import math
from typing import Any

import torch
from torch import Tensor

from gradcheckd.torch.aten_nodes.graph_builder import GraphTensor, UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import (
    Converted,
    OperatorCall,
    get_shape,
    is_graph_tensor,
    register_converter,
)

_MAX_MATRIX_SIZE = 2**20
"""Elements of a matrix of zeros and ones beyond which an operator is not converted."""


@register_converter("index_add")
def _convert_index_add(call: OperatorCall) -> Converted:
    """Convert self + alpha * P source along an axis, with P of shape (size, count of indices)."""
    shape = get_shape(call["self"])
    dim: int = call["dim"] % max(1, len(shape))
    matrix = call.builder.add_tensor(f"{call.name}.sums", _make_matrix(shape[dim], call["index"]))
    # The product runs over the axis before the last one, or the only one.
    target = max(len(shape) - 2, 0)
    source = call["source"] if dim == target else _swap_axes(call, call["source"], dim, target)
    product = call.add_node("matmul", matrix, source)
    if dim != target:
        product = call.add_node("transpose", product, dim0=dim, dim1=target)
    alpha = call.get("alpha", 1)
    return call.add_node("add", call["self"], product, alpha=None if alpha == 1 else alpha)


def _swap_axes(call: OperatorCall, source: Any, first: int, second: int) -> Any:
    if is_graph_tensor(source):
        return call.add_node("transpose", source, dim0=first, dim1=second)
    return source.transpose(first, second)


@register_converter("_embedding_bag", "embedding_bag", "_embedding_bag_forward_only")
def _convert_embedding_bag(call: OperatorCall) -> Converted:
    """Convert sums or means of rows to a product with the matrix that the operator makes of unit vectors."""
    weight = call["weight"]
    if call.get("mode", 0) == 2 or is_graph_tensor(call.get("per_sample_weights")) or not is_graph_tensor(weight):
        raise UnsupportedError("the largest of a bag, or weights of each sample")
    if call.get("padding_idx", -1) >= 0 or call.get("scale_grad_by_freq", False):
        raise UnsupportedError("its gradient is not that of the function, by padding_idx or scale_grad_by_freq")
    size = get_shape(weight)[0]
    if size * call.result[0].shape[0] > _MAX_MATRIX_SIZE:
        raise UnsupportedError("more rows than a matrix can hold")
    given = call.get("per_sample_weights")
    replaced = {"weight": torch.eye(size, dtype=torch.float64)}
    matrix = call.apply(replaced | ({} if given is None else {"per_sample_weights": given.double()}))[0]
    name = call.builder.add_tensor(f"{call.name}.bags", matrix)
    return [call.add_node("matmul", name, weight), *[None] * (len(call.result) - 1)]


def _make_matrix(size: int, index: Tensor) -> Tensor:
    """Return the matrix that sums the entries of equal indices, shape (size, count of indices)."""
    count = index.numel()
    if size * count > _MAX_MATRIX_SIZE:
        raise UnsupportedError("a sum at more indices than a matrix can hold")
    matrix = torch.zeros(size, count, dtype=torch.float64)
    matrix[index.reshape(-1).cpu() % size, torch.arange(count)] = 1.0
    return matrix


@register_converter("scatter_add", "scatter.reduce", "scatter_reduce")
def _convert_scatter_add(call: OperatorCall) -> Converted:
    """Convert self + P source on flat tensors."""
    if call.get("reduce", "sum") not in ("sum", "add") or not call.get("include_self", True):
        raise UnsupportedError("a reduction other than a sum")
    shape, index = get_shape(call["self"]), call["index"].cpu()
    source = call["src"]
    if get_shape(source) != list(index.shape):
        raise UnsupportedError("an index that is smaller than its source")
    target = torch.arange(math.prod(shape), dtype=torch.int64).reshape(shape)
    return _add_sums(call, shape, _list_places(target, call["dim"], index), source)


def accumulate(call: OperatorCall) -> Converted:
    """Convert self + P values on flat tensors; values have the shape of the indexed part."""
    shape, places = get_shape(call["self"]), find_places(call)
    values = call["values"]
    if get_shape(values) != list(places.shape):
        values = _expand(call, values, list(places.shape))
    return _add_sums(call, shape, places, values)


def find_places(call: OperatorCall) -> Tensor:
    """Return the flat places that the indices of a call mean."""
    shape, indices = get_shape(call["self"]), list[Any](call["indices"])
    target = torch.arange(math.prod(shape), dtype=torch.int64).reshape(shape)
    return target[tuple(slice(None) if index is None else index.cpu() for index in indices)]


def _expand(call: OperatorCall, values: Any, shape: list[int]) -> Any:
    if is_graph_tensor(values):
        return GraphTensor(call.add_node("expand", values, size=shape), values.value.expand(shape))
    return values.expand(shape)


def _list_places(target: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return the flat place of each element of a scatter."""
    grid = torch.meshgrid(*(torch.arange(size) for size in index.shape), indexing="ij")
    coordinates = list(grid)
    coordinates[dim] = index
    return target[tuple(coordinates)]


def _add_sums(call: OperatorCall, shape: list[int], places: Tensor, source: Any) -> str:
    size = math.prod(shape)
    matrix = call.builder.add_tensor(f"{call.name}.sums", _make_matrix(size, places))
    flat: Any = source
    flat = call.add_node("reshape", source, shape=[-1, 1]) if is_graph_tensor(source) else flat.reshape(-1, 1)
    product = call.add_node("reshape", call.add_node("matmul", matrix, flat), shape=shape)
    return call.add_node("add", call["self"], product)
