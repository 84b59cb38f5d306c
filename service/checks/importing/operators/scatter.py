"""Writing of updates at constant indices: a selection among the elements of the tensor and those of the updates."""

import math

import numpy as np

from schemas.datatype import Array
from service.checks.importing.folding import check_result_size
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, normalize_axis, register_operator
from service.checks.importing.operators.index import find_flat_positions, select_elements
from service.checks.importing.operators.windows import get_list
from service.checks.importing.values import Value

_MAX_ROUNDS = 32
"""Most updates of one element."""
_JOINS = {"add": "add", "mul": "mul", "max": "maximum", "min": "minimum"}


@register_operator("Scatter", "ScatterElements")
def _import_scatter_elements(call: NodeCall) -> Results:
    data, indices, updates = call.get(0), call.get_constant(1, "indices"), call.get(2)
    if indices is None or indices.shape != updates.shape or indices.ndim != len(data.shape):
        raise OperatorUseError("needs constant indices of the shape of its updates")
    axis = normalize_axis(call.attributes.get("axis", 0), len(data.shape))
    grids: list[Array] = [np.asarray(grid) for grid in np.indices(indices.shape)]
    grids[axis] = indices
    positions = find_flat_positions(data.shape, np.stack(grids, -1)).reshape(-1)
    return scatter(call, data, updates, positions, call.attributes.get("reduction", "none"))


@register_operator("ScatterND")
def _import_scatter_nd(call: NodeCall) -> Results:
    data, indices, updates = call.get(0), call.get_constant(1, "indices"), call.get(2)
    if indices is None or indices.ndim == 0:
        raise OperatorUseError("needs indices with one axis or more")
    positions = find_flat_positions(data.shape, indices).reshape(-1)
    if positions.size != math.prod(updates.shape):
        raise OperatorUseError(f"has updates of shape {list(updates.shape)}, which do not fit its indices")
    return scatter(call, data, updates, positions, call.attributes.get("reduction", "none"))


def scatter(call: NodeCall, data: Value, updates: Value, positions: Array, reduction: str) -> Value:
    """Return a tensor with updates at flat positions, one for each update.

    Updates of one element are joined in rounds, of which each has at most one for an element.
    """
    size, shape = math.prod(data.shape), list(data.shape)
    if reduction != "none" and reduction not in _JOINS:
        raise OperatorUseError(f"has the reduction {reduction!r:.40}, which is not taken")
    if reduction == "none":
        chosen = np.arange(size)
        chosen[positions] = size + np.arange(positions.size)
        return select_elements(call, [data, updates], chosen, shape)
    for sources in _list_rounds(positions, size):
        # In a round an element without an update is joined with the neutral number, behind all updates.
        neutral = call.make_constant(np.array([_find_neutral(reduction)]), "neutral")
        if reduction in ("max", "min"):
            moved = select_elements(
                call, [data, updates], np.where(sources < 0, np.arange(size), size + sources), shape
            )
        else:
            moved = select_elements(call, [updates, neutral], np.where(sources < 0, positions.size, sources), shape)
        data = call.emit(_JOINS[reduction], [data, moved])
    return data


def _find_neutral(reduction: str) -> float:
    return 1.0 if reduction == "mul" else 0.0


def _list_rounds(positions: Array, size: int) -> list[Array]:
    """Return for each round the update of each element, -1 for none."""
    rounds, left = list[Array](), np.arange(positions.size)
    while left.size:
        if len(rounds) == _MAX_ROUNDS:
            raise OperatorUseError(f"updates an element more than {_MAX_ROUNDS} times; that is not taken")
        _, first = np.unique(positions[left], return_index=True)
        sources = np.full(size, -1)
        sources[positions[left[first]]] = left[first]
        rounds.append(sources)
        left = np.delete(left, first)
    return rounds


@register_operator("Col2Im")
def _import_col2im(call: NodeCall) -> Results:
    value = call.get(0)
    image, block = (call.get_integers(position, name) for position, name in ((1, "image_shape"), (2, "block_shape")))
    if not image or not block or len(image) != len(block) or len(value.shape) != 3 or min(block) < 1:
        raise OperatorUseError("needs an input of three axes, and an image and a block of as many axes")
    rank = len(image)
    strides, dilations = (get_list(call, name, rank, 1) for name in ("strides", "dilations"))
    pads = get_list(call, "pads", 2 * rank, 0)
    check_result_size(call, image)
    # The positions in the padded image of each element of each block, (block, blocks).
    along: list[Array] = []
    for axis in range(rank):
        room = image[axis] + pads[axis] + pads[axis + rank] - dilations[axis] * (block[axis] - 1) - 1
        starts = np.arange(room // strides[axis] + 1) * strides[axis] - pads[axis]
        along.append(np.arange(block[axis])[:, None] * dilations[axis] + starts)
    grids: list[Array] = []
    for axis, positions in enumerate(along):
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = positions.shape
        grids.append(positions.reshape(shape))
    places = np.stack(np.broadcast_arrays(*grids), -1).reshape(-1, rank)
    size, channels = math.prod(block), value.shape[1] // math.prod(block)
    if value.shape[1] != channels * size or len(places) != size * value.shape[2]:
        raise OperatorUseError(f"has {value.shape[2]} blocks, which do not fit its image")
    inside = ((places >= 0) & (places < np.array(image))).all(1)
    targets = np.ravel_multi_index(tuple(places[inside].T), image)
    planes = value.shape[0] * channels
    offsets = np.arange(planes)[:, None]
    chosen = (offsets * len(places) + np.flatnonzero(inside)).reshape(-1)
    updates = select_elements(call, [value], chosen, [chosen.size])
    zeros = call.make_constant(np.zeros((value.shape[0], channels, *image)), "zeros")
    return scatter(call, zeros, updates, (offsets * math.prod(image) + targets).reshape(-1), "add")
