"""From tensors on the wire to a layout of evaluations, within the limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from schemas.datatype import DATATYPES, Datatype
from schemas.plan import BoundsSpec
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from schemas.tensor import Tensor
from service.checks.blackbox.outputs import OutputRequest
from service.checks.blackbox.plan_size import SizeLimit, check_plan_size
from service.checks.blackbox.scales_and_bounds import (
    MoveSettings,
    build_bounded_point,
    compute_step_sizes,
    find_narrow_bounds,
)
from service.checks.common.limits import Limits
from service.numerics.blackbox.domain import MAX_LATTICE_SPACING
from service.numerics.blackbox.lattice import compute_lattice_spacing
from service.numerics.blackbox.layout import (
    DEFAULT_DIRECTIONS,
    EvaluationLayout,
    lay_out_evaluations,
)
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import STEP_SCHEDULES
from service.numerics.core.batching import Array, unravel_index


@dataclass(frozen=True)
class EvaluationPlan:
    """The evaluations in terms of the numerics, and the parts of their plan.

    Attributes
    ----------
    layout
        Layout of the evaluations.
    datatypes
        Datatypes on the wire, by name.
    random
        True for random directions, False for those of single elements.
    direction_count
        Number of directions of each tensor.
    step_sizes
        Moves of the elements away from bounds, powers of two, by name, shape (elements,).
    bounds
        Bounds of the request, by name.
    has_first_look
        True if some of the evaluations come first, and may suffice; False by default.
    cotangents
        Cotangents of the outputs, float64 in their shapes, by name; none of a loss.
    """

    layout: EvaluationLayout
    datatypes: Mapping[str, Datatype]
    random: bool
    direction_count: int
    step_sizes: Mapping[str, Array]
    bounds: Mapping[str, BoundsSpec]
    has_first_look: bool = False
    cotangents: Mapping[str, Array] = field(default_factory=dict[str, Array])


def build_evaluation_plan(
    tensors: Mapping[str, Tensor],
    settings: MoveSettings,
    *,
    random: bool,
    count: int | None,
    seed: int,
    limits: Limits,
    has_first_look: bool = False,
    outputs: OutputRequest | None = None,
    size_factor: int = 1,
    path_prefix: tuple[str, ...] = (),
) -> EvaluationPlan:
    """Lay out the evaluations for a point.

    Parameters
    ----------
    tensors
        Tensors of the point, by name.
    settings
        Scales and bounds of the moves.
    random
        True for random directions, False for those of single elements.
    count
        Number of directions of each tensor; None for the default.
    seed
        Seed of the directions.
    limits
        Limits of the request.
    has_first_look
        True if some of the evaluations come first; False by default.
    outputs
        Outputs of the function; none by default, as of a loss.
    size_factor
        Factor on the number of elements that the points may hold; 1 by default.
    path_prefix
        Path into the request of the object with `point`, `scale`, `bounds` and `directions`; empty by default.

    Raises
    ------
    InvalidRequestError
        All errors of the point, its moves and its size.
    """
    outputs = outputs or OutputRequest()
    _check_tensors(tensors, settings, limits, path_prefix)
    datatypes = {name: tensor.datatype or DATATYPES["FP64"] for name, tensor in tensors.items()}
    step_sizes: dict[str, Array] = {}
    points: dict[str, TensorPoint] = {}
    for name, tensor in tensors.items():
        values, schedule = tensor.array.astype(np.float64), STEP_SCHEDULES[datatypes[name].name]
        step_sizes[name] = compute_step_sizes(name, values, schedule, settings, random=random)
        points[name] = build_bounded_point(name, values, schedule, step_sizes[name], settings, random=random)
    if errors := [
        error
        for name, point in points.items()
        for error in find_narrow_bounds(name, point, step_sizes[name], path_prefix)
    ]:
        raise InvalidRequestError(errors)
    largest_size = max(point.values.size for point in points.values())
    if count is None:
        count = DEFAULT_DIRECTIONS if random else largest_size
    count = count if random else min(count, largest_size)
    check_plan_size(points, outputs, random=random, count=count, limit=SizeLimit(limits, size_factor, path_prefix))
    layout = lay_out_evaluations(points, random=random, count=count, seed=seed)
    if errors := [
        error
        for name in points
        for error in _find_unusable_scales(layout, name, step_sizes[name], datatypes[name], path_prefix)
    ]:
        raise InvalidRequestError(errors)
    cotangents = outputs.choose_cotangents(seed)
    return EvaluationPlan(layout, datatypes, random, count, step_sizes, settings.bounds, has_first_look, cotangents)


def _check_tensors(
    tensors: Mapping[str, Tensor], settings: MoveSettings, limits: Limits, path_prefix: tuple[str, ...]
) -> None:
    errors: list[PlacedError] = []
    for name, tensor in tensors.items():
        if tensor.datatype is not None and tensor.datatype.name not in STEP_SCHEDULES:
            detail = f"a point is of {', '.join(STEP_SCHEDULES)}; datatype {tensor.datatype.name} was given"
            errors.append(error_at(detail, *path_prefix, "point", name))
        if tensor.array.ndim > limits.dimensions:
            detail = f"{tensor.array.ndim} dimensions; at most {limits.dimensions} are taken"
            errors.append(error_at(detail, *path_prefix, "point", name))
    errors += settings.find_errors(tensors, path_prefix)
    if errors:
        raise InvalidRequestError(errors)


def _find_unusable_scales(
    layout: EvaluationLayout, name: str, step_sizes: Array, datatype: Datatype, path_prefix: tuple[str, ...]
) -> list[PlacedError]:
    """Return the error of a scale that cannot move the tensor in its datatype."""
    point, moves = layout.points[name], layout.lines[name].moves
    path = (*path_prefix, "scale", name)
    has_immovable_elements = point.element_moves is not None and not point.element_moves.move_sizes.all()
    if moves.coarseness > MAX_LATTICE_SPACING or has_immovable_elements or not _moves_every_direction(moves.directions):
        return [error_at(_describe_small_scale(point, step_sizes, datatype), *path)]
    with np.errstate(over="ignore"):
        farthest = float((np.abs(moves.starts) + point.schedule.largest_step * np.abs(moves.directions)).max())
    if not farthest <= _find_largest_finite(datatype):
        detail = f"elements would be moved beyond the largest number of {datatype.name}; give a smaller scale"
        return [error_at(detail, *path)]
    return []


def _describe_small_scale(point: TensorPoint, step_sizes: Array, datatype: Datatype) -> str:
    flat_values, schedule = point.values.ravel(), point.schedule
    with np.errstate(over="ignore"):
        spacing = compute_lattice_spacing(np.abs(flat_values) + schedule.largest_step * step_sizes, schedule.precision)
        min_sizes = np.maximum(spacing / (MAX_LATTICE_SPACING * schedule.smallest_step), 2 * step_sizes)
        position = int((min_sizes / step_sizes).argmax())
    index = list(unravel_index(position, point.values.shape))
    return (
        f"the scale {step_sizes[position]:g} is too small: {datatype.name} has no numbers that near to "
        f"{flat_values[position]:g}, at index {index}; give {min_sizes[position]:.3g} or more, or the point in "
        "a wider datatype"
    )


def _moves_every_direction(moves: Array) -> bool:
    return bool(np.isfinite(moves).all()) and bool(moves.any(axis=tuple(range(1, moves.ndim))).all())


def _find_largest_finite(datatype: Datatype) -> float:
    precision = STEP_SCHEDULES[datatype.name].precision
    return float(np.ldexp(1 - 2.0**-precision.significand_bits, 2 - precision.min_exponent)) / 2
