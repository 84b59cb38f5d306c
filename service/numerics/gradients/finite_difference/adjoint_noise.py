"""The noise of a difference along one line, by the adjoint: without sweeps of the rounding model.

The sweeps of `noise_meter.py` draw the errors of every operation at random and look at the spread of the terms. To
first order the outcome is known without drawing anything: each error reaches the loss through the gradient of the loss
by the number that is off.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.bounded_cache import BoundedCache
from service.numerics.core.equal_numbers import count_equal_numbers
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import PRECISIONS
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.repeat_rounding import RepeatRounding
from service.numerics.model.graph import Node
from service.numerics.model.monte_carlo import compute_root_mean_square
from service.numerics.model.rounding import SAFETY_FACTOR
from service.numerics.ops.directional_move import DirectionalMove
from service.numerics.ops.op import Op
from service.numerics.ops.rounding_errors import Rounding

_ROUNDING_DEVIATION = PRECISIONS["FP64"].unit_roundoff / math.sqrt(3)
"""Standard deviation of an error that is uniform in +-u."""
_SQRT_2 = math.sqrt(2)
_SMALLEST_NORMAL = 2.0 ** PRECISIONS["FP64"].min_exponent

Operands = tuple[Array | None, ...]


class LinePoint(NamedTuple):
    """A model at one point of a line, with its gradients.

    Attributes
    ----------
    values
        Every leaf and node, (1, ...).
    gradients
        Gradients of the loss by every leaf and node, (1, ...).
    """

    values: Mapping[str, Array]
    gradients: Mapping[str, Array]


def estimate_adjoint_noise(
    downstream: DownstreamGraph, moved: LinePoint, base_gradients: Mapping[str, Array], generator: np.random.Generator
) -> float:
    """Return the noise of f(x + h d) - f(x - h d), of the terms of the loss.

    It is absolute, and 6 times the root mean square of the difference's error by the rounding model.

    Parameters
    ----------
    downstream
        Nodes downstream of the move.
    moved
        The model at x + h d.
    base_gradients
        Gradients at x.
    generator
        Source of the errors inside fused ops.

    Notes
    -----
    Let v be the values of a node, S_v the magnitude of their rounding and n_v the length of its sums, so that each
    value is off by u sqrt(n_v) S_v delta, with delta independent and uniform in +-1. To first order the loss at a point
    is off by

        sum_v gbar_v . (u sqrt(n_v) S_v delta_v),      gbar_v = dL/dv at that point,

    and the variance of that is u^2 / 3 sum_v n_v |gbar_v S_v|^2. Both ends of the difference round anew, so their
    variances add up:

        Var = u^2 / 3 sum_v n_v (|gbar_v(x + h d) S_v|^2 + |gbar_v(x - h d) S_v|^2).

    Gradients are needed at the ends, and not at x: at a fitted point they are 0 at x and grow with the step. They are
    computed at x + h d. With c_v the change from gbar_v(x), those at x - h d are gbar_v(x) - c_v up to O(h^2), so that

        |gbar_v(x + h d) S_v|^2 + |gbar_v(x - h d) S_v|^2 = 2 |gbar_v(x) S_v|^2 + 2 |c_v S_v|^2.

    A node that the move does not reach rounds once for both ends. Its error displaces the point, and what is left of it
    in the difference is the change of the gradient between the ends: n_v |2 c_v S_v|^2.

    The sum of the loss does not round, since its terms are subtracted one by one: at the ends of the walk back from the
    loss (`downstream.py`) the terms round, and the nodes behind them do not.

    An op that computes a number m times over makes the same error m times. By the inequality of Cauchy and Schwarz
    their sum is off by no more than independent errors of sqrt(m) times the size (`repeat_rounding.py`).

    A fused op rounds inside, in ways that its outputs share: an error of the sum of a softmax moves the whole row. Such
    an op is computed in sweeps of the rounding model by itself, at exact inputs. Its errors are then projected onto
    gbar, with all that they have in common.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 2.8 and 3.1, for the statistical form of
    rounding errors; Griewank and Walther, Evaluating Derivatives (2008), section 3.4, for estimates of rounding errors
    by the adjoint.
    """
    graph = downstream.point.graph
    reached = {node.name for node in downstream.nodes}
    ends = downstream.term_coefficients
    sweeps = RepeatRounding(generator, 1)
    deviations: list[float] = []
    for node in iterate_interruptibly(graph.nodes):
        is_reached = node.name in reached
        if is_reached and node.name in ends:
            operands = graph.get_operand_arrays(node, moved.values)
            deviations.append(_measure_terms_deviation(node, moved.values, operands, ends[node.name]))
        if is_reached and not downstream.rounds_value(node):
            continue
        base = base_gradients[node.name]
        change = moved.gradients[node.name] - base
        if not is_reached:
            sides = (_SQRT_2 * change,)
        elif node.name in ends and node.op.ends_in_sum:
            # The terms of a sum go to the loss without it, and its value to its readers alone.
            sides = (base - _get_factor(ends[node.name]), change)
        else:
            sides = (base, change)
        operands = graph.get_operand_arrays(node, moved.values)
        deviations += _project_value_errors(node, moved.values[node.name], operands, sides, sweeps)
    return SAFETY_FACTOR * _SQRT_2 * math.hypot(*deviations)


def _measure_terms_deviation(
    node: Node, values: Mapping[str, Array], operands: Operands, coefficient: Array | None
) -> float:
    """Return the deviation of one end for the rounding of the terms themselves."""
    terms = node.split_terms(None if node.op.ends_in_sum else values[node.name], *operands)
    rounding = node.op.estimate_terms_rounding(terms, *operands)
    if rounding is None:
        return 0.0
    (deviation,) = _measure_deviations(terms, rounding, (np.ones(1),))
    return abs(_get_factor(coefficient)) * deviation


def _get_factor(coefficient: Array | None) -> float:
    return 1.0 if coefficient is None else float(coefficient.item())


def _project_value_errors(
    node: Node, output: Array, operands: Operands, sides: Sequence[Array], sweeps: RepeatRounding
) -> list[float]:
    """Return the deviation of the loss for the errors of a node, by each of some gradients."""
    if node.branch is not None:
        rounding = node.op.estimate_rounding_on_branch(node.branch, output, *operands)
    elif type(node.op).forward_with_errors is Op.forward_with_errors:
        rounding = node.op.estimate_implemented_rounding(output, *operands)
    else:
        return _project_inner_errors(node, operands, sides, sweeps)
    if rounding is None:
        return []
    # Random moves leave hardly any numbers equal.
    return _measure_deviations(output, rounding, sides, may_repeat=not isinstance(node.op, DirectionalMove))


def _measure_deviations(
    array: Array, rounding: Rounding, gradients: Iterable[Array], *, may_repeat: bool = True
) -> list[float]:
    """Return the deviation of the loss for independent errors of an array, by each of some gradients."""
    scale = rounding.magnitude + _SMALLEST_NORMAL
    counts = count_equal_numbers(array) if may_repeat else None
    if counts is not None:
        scale *= np.sqrt(counts)
    unit = _ROUNDING_DEVIATION * math.sqrt(rounding.term_count)
    return [unit * euclidean_norm(scale * gradient) for gradient in gradients]


class _OutputErrors:
    """A model of errors that notes their sizes, and adds none."""

    as_implemented = True
    underflow_loss = 2.0 ** PRECISIONS["FP64"].min_exponent / PRECISIONS["FP64"].unit_roundoff
    spread_scale = 1.0

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self.roundings: list[Rounding] = []

    def __call__(
        self,
        array: Array,
        magnitude: Array | None = None,
        terms: float = 1,
        most: Array | None = None,
        rounded: Array | None = None,
    ) -> Array:
        scale = math.sqrt(terms) * (np.abs(array) if magnitude is None else magnitude)
        if most is not None:
            scale = np.minimum(scale, most / PRECISIONS["FP64"].unit_roundoff)
        self.arrays.append(array)
        self.roundings.append(Rounding(scale, 1))
        return array

    def cast(self, place: str, array: Array) -> Array:
        """Return an array as it is: nothing is cast in float64."""
        return array

    def cast_factor(self, place: str, array: Array) -> Array:
        """Return an array as it is: nothing is cast in float64."""
        return array

    def add_rounding_error(self, array: Array, rounding: Rounding | None) -> Array:
        """Note the error of a result as a whole."""
        return array if rounding is None else self(array, rounding.magnitude, rounding.term_count)


def _project_inner_errors(
    node: Node, operands: Operands, sides: Sequence[Array], sweeps: RepeatRounding
) -> list[float]:
    """Return the deviation of the loss for the errors of the steps of an op.

    If all of them are made in the output they are independent, and need no sweeps.
    """
    key = node.op_text, tuple(None if each is None else (each.shape, each.dtype) for each in operands)
    has_steps = _HAVE_STEPS.get_or_make(key, lambda: _list_output_errors(node, operands) is None)
    output_errors = None if has_steps else _list_output_errors(node, operands)
    if output_errors is not None:
        return [
            deviation
            for error in output_errors
            for deviation in _measure_deviations(error.array, error.rounding, sides)
        ]
    outputs = node.forward_with_errors(sweeps, *operands)
    deviations = (outputs[1:] - outputs[:1]).reshape(len(outputs) - 1, -1)
    return [
        float(
            sweeps.spread_scale
            * compute_root_mean_square(deviations @ np.ravel(np.broadcast_to(side, outputs[:1].shape)))
        )
        for side in sides
    ]


_HAVE_STEPS: BoundedCache[bool] = BoundedCache(256)
"""True for an op that makes errors before its output, by its attributes and the shapes of its operands.

Sweeps are right for every op: without errors in steps they are only slower.
"""


class _OutputError(NamedTuple):
    """An error of the output as a whole."""

    array: Array
    rounding: Rounding


def _list_output_errors(node: Node, operands: Operands) -> list[_OutputError] | None:
    """Return the errors of an op's output; None if it makes some in steps before."""
    errors = _OutputErrors()
    output = node.forward_with_errors(errors, *operands)
    if any(array is not output for array in errors.arrays):
        return None
    return [_OutputError(output, rounding) for rounding in errors.roundings]
