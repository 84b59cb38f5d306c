"""Monte Carlo arithmetic: passes with a rounding error of each op.

To every value and every intermediate gradient an error d sqrt(n) (S + t) is added: S is the op on absolute values, n
the length of its longest sum (`Op.rounding`), d uniform in +-u, and t the smallest normal number, so that below it
the error is half the spacing of subnormal numbers: that of each product in the sum, for each underflows by itself. The
spread of the results over some sweeps is what rounding does.
If u is near float64's own, 1 + d would be rounded away. The amplitude is 2**-30 then, and the spread is scaled back,
which the linearity of small errors allows.

Source: Parker, Monte Carlo Arithmetic (1997), sections 4 and 6. The local error sqrt(n) S is the statistical form of
the standard bound for sums, Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 2.6 and 4.2.
"""

import math
from collections.abc import Mapping

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.equal_numbers import find_equal_numbers
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.model.graph import NamedArrays, Node, has_varying_choices
from service.numerics.model.uncertain_choices import (
    choose_first_values,
    mark_uncertain_gradients,
    mark_uncertain_output,
)
from service.numerics.ops.discrete import DiscreteOp
from service.numerics.ops.jumps import bound_moves
from service.numerics.ops.op import BackwardPass, Gradients
from service.numerics.ops.rounding_errors import Rounding

ROUNDING_SWEEPS = 8
"""Perturbed sweeps. Before them stands one without errors, in the same tile."""

_SMALLEST_AMPLITUDE = 2.0**-30

_LARGEST_RANDOM_INTEGER = 2.0**7
"""Size of the random integers that errors are made of."""

_SHARED_PART = 0.8
"""Part of the error of a number that is common to all that equal it."""


class MonteCarloRounding:
    """An observer that adds rounding errors to what a pass computes.

    The first of every ROUNDING_SWEEPS + 1 tiles stays as it is. `spread_scale` brings a measured spread back to the
    size of the unit roundoff. Errors `as_implemented` are those of the passes here, which may be more careful than the
    textbook's.
    """

    def __init__(
        self, precision: Precision, generator: np.random.Generator, groups: int = 1, as_implemented: bool = False
    ) -> None:
        self.as_implemented = as_implemented
        # Functions of half precision are computed in single precision, and rounded.
        has_narrow_range = precision.min_exponent > PRECISIONS["FP32"].min_exponent
        self.underflow_loss = 0.0 if has_narrow_range else 2.0**precision.min_exponent / precision.unit_roundoff
        self._precision = precision
        self._unit_roundoff = precision.unit_roundoff
        self._amplitude = max(precision.unit_roundoff, _SMALLEST_AMPLITUDE)
        self._smallest_normal = 2.0**precision.min_exponent
        self._generator = generator
        self._tiles = groups * (ROUNDING_SWEEPS + 1)
        self.spread_scale = precision.unit_roundoff / self._amplitude

    def perturb_leaves(self, leaves: Mapping[str, Array]) -> NamedArrays:
        """Perturb each leaf by the error of its representation.

        A number that the precision represents exactly stays.
        """
        rounded: NamedArrays = {}
        for name, leaf in leaves.items():
            inexact = ~self._precision.is_representable(leaf) if leaf.dtype.kind == "f" else np.zeros(leaf.shape, bool)
            rounded[name] = (
                self.add_rounding_error(leaf, Rounding(np.abs(leaf) * inexact, 1)) if inexact.any() else leaf
            )
        return rounded

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        """Evaluate a node, with errors; one of integers or truths with all its possible values, (n, ...)."""
        if isinstance(node.op, DiscreteOp):
            return node.forward(*inputs) if node.branch is not None else self._list_values(node.op, inputs)
        if not has_varying_choices(inputs):
            return node.forward_with_errors(self, *inputs)
        output = node.forward_with_errors(self, *choose_first_values(inputs))
        return mark_uncertain_output(node.op, output, inputs, self._tiles)

    def _list_values(self, op: DiscreteOp, inputs: tuple[Array | None, ...]) -> Array:
        """Return the values of integers or truths that correct programs may compute."""
        floats = [array is not None and array.dtype.kind == "f" for array in inputs]
        errors = [
            bound_finite_moves(self, array) if is_float and array is not None else None
            for array, is_float in zip(inputs, floats, strict=True)
        ]
        at_point = [
            array[:1] if is_float and array is not None else array
            for array, is_float in zip(inputs, floats, strict=True)
        ]
        return op.list_values(errors, *at_point)

    def backward(
        self, node: Node, node_backward: BackwardPass, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        """Return the gradients of a node's inputs, with errors added."""
        if has_varying_choices(inputs):
            results = self.backward(node, node_backward, gradient, output, choose_first_values(inputs))
            is_discrete = node.op.output_kind != "float"
            return results if is_discrete else mark_uncertain_gradients(node.op, results, inputs, self._tiles)
        if node_backward != node.op.backward:
            roundings = node.op.estimate_backward_rounding(gradient, output, *inputs)
            results = node_backward(gradient, output, *inputs)
            return tuple(
                None if result is None else self.add_rounding_error(result, rounding)
                for result, rounding in zip(results, roundings, strict=True)
            )
        return node.op.backward_with_errors(self, gradient, output, *inputs)

    def observe_terms(self, node: Node, terms: Array, inputs: tuple[Array | None, ...]) -> Array:
        """Add the error of the terms of the loss, which only differences look at."""
        return self.add_rounding_error(terms, node.op.estimate_terms_rounding(terms, *inputs))

    def operation(self, result: Array) -> Array:
        """Add the error of one operation."""
        return self.add_rounding_error(result, Rounding(np.abs(result), 1))

    def cast(self, place: str, array: Array) -> Array:
        """Return an array as it is: one arithmetic does everything."""
        return array

    def cast_factor(self, place: str, array: Array) -> Array:
        """Return an array as it is: one arithmetic does everything."""
        return array

    def add_rounding_error(self, array: Array, rounding: Rounding | None) -> Array:
        """Return an array (K or 1, ...) with errors added: (K, ...)."""
        return array if rounding is None else self(array, rounding.magnitude, rounding.term_count)

    def __call__(
        self,
        array: Array,
        magnitude: Array | None = None,
        terms: float = 1,
        most: Array | None = None,
        rounded: Array | None = None,
    ) -> Array:
        """Add errors of about u sqrt(terms), at most `most`, to an array (K or 1, ...)."""
        error = self.sample_errors(array if rounded is None else rounded)
        # What underflows is each product of a sum by itself.
        scale = (np.abs(array) if magnitude is None else magnitude) + self._smallest_normal
        root = math.sqrt(terms)
        if most is not None:
            # The amplitude stands for the unit roundoff, also where it is another.
            scale = np.minimum(scale, most / (self._unit_roundoff * root))
        scale *= self._amplitude / _LARGEST_RANDOM_INTEGER * root
        error *= scale
        error += array
        error[:: ROUNDING_SWEEPS + 1] = array[:: ROUNDING_SWEEPS + 1]
        return error

    def sample_errors(self, array: Array) -> Array:
        """Return random integers in place of errors, one for each number of each sweep."""
        return self._sample_integers(array.shape[1:])

    def _sample_integers(self, shape: Shape) -> Array:
        return _sample_random_integers(self._generator, (self._tiles, *shape))


def bound_finite_moves(errors: MonteCarloRounding, array: Array) -> Array:
    """Return the largest error of an input, (1, ...); infinite where a sweep left the finite numbers."""
    with np.errstate(invalid="ignore"):
        moves = bound_moves(errors, array)
    # Infinity stays itself in all sweeps.
    is_same = (array == array[:1]).all(axis=0, keepdims=True)
    return np.where(is_same, 0.0, np.where(np.isnan(moves), np.inf, moves))


ALIKE_BITS = 3
"""Bits beyond a precision: numbers nearer to each other than an eighth of its spacing round alike."""


class SharedRounding(MonteCarloRounding):
    """An observer that also knows that equal numbers of one array are off alike.

    Numbers are equal that the precision can hardly tell apart: tanh of -9.895 and of -9.897 rounds to -1 with the same
    error. Most of the error of each is that of all that equal it, and the rest its own: a library may compute them in
    other orders. Their squares add up to one.
    """

    def __init__(self, precision: Precision, generator: np.random.Generator) -> None:
        super().__init__(precision, generator)
        self._dropped_bits = max(0, PRECISIONS["FP64"].significand_bits - precision.significand_bits - ALIKE_BITS)

    def sample_errors(self, array: Array) -> Array:
        """Return random integers in place of errors."""
        groups = find_equal_numbers(round_bits(array[0], self._dropped_bits))
        errors = super().sample_errors(array)
        if groups is None:
            return errors
        shared = _SHARED_PART * self._sample_integers((int(groups.max()) + 1,))
        errors *= math.sqrt(1 - _SHARED_PART**2)
        for error, group_errors in zip(errors, shared, strict=True):
            error += group_errors[groups]
        return errors


def round_bits(array: Array, dropped_bits: int) -> Array:
    """Round each number to fewer bits of its significand, ties upwards; infinity and NaN stay what they are."""
    if not dropped_bits:
        return array
    bits = np.ascontiguousarray(array, dtype=np.float64).view(np.uint64) + np.uint64(1 << (dropped_bits - 1))
    bits &= ~np.uint64((1 << dropped_bits) - 1)
    return bits.view(np.float64)


def _sample_random_integers(generator: np.random.Generator, shape: Shape) -> Array:
    """Return random integers between -_LARGEST and _LARGEST, float64.

    They are of 8 bits, which is enough for an error's own size, and eight of them are had for a draw.
    """
    count = count_elements(shape)
    return generator.bit_generator.random_raw(-(-count // 8)).view(np.int8)[:count].reshape(shape).astype(np.float64)


_SAFE_MEAN_SQUARE = 2.0**-960
"""Mean square of which nothing has been lost that counts, though some of the squares may have underflowed."""


def compute_root_mean_square(deviations: Array, axis: int = 0) -> Array:
    """Return the root mean square over an axis; infinite with a NaN in it."""
    squares = np.add.reduce(np.square(deviations), axis=axis) / deviations.shape[axis]
    if squares.size and squares.min() > _SAFE_MEAN_SQUARE and squares.max() < np.inf:
        return np.sqrt(squares)
    largest = np.abs(deviations).max(axis=axis, initial=0, keepdims=True)
    unit = np.where((largest > 0) & np.isfinite(largest), largest, 1)
    with np.errstate(over="ignore"):
        result = (unit * np.sqrt(np.square(deviations / unit).mean(axis=axis, keepdims=True))).squeeze(axis)
    return np.where(np.isnan(result), np.inf, result)
