"""Rounding of ops whose value jumps from one piece to the next.

A program whose rounding moves an input across a jump returns another number, however small the rounding. No spread of a
few sweeps tells how likely that is. So all sweeps of the rounding model stay on the pieces of the point. If the errors
of the inputs reach another piece, the sweeps are not finite there. Then the allowance of each gradient that they reach
has no limit, and such elements are inconclusive.
"""

from itertools import product
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.op import Op
from service.numerics.ops.rounding_errors import ErrorModel

_SAFETY_FACTOR = 8.0
"""Largest error of an input over its root mean square."""


class JumpingOp(Op):
    """An op with pieces, between which its value jumps."""

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        at_point = [array[:1] for array in inputs]
        branch = self.select_branch(*at_point)
        assert branch is not None
        output = self.forward_on_branch(branch, *inputs)
        output = errors.add_rounding_error(output, self.estimate_rounding_on_branch(branch, output, *inputs))
        moves = [bound_moves(errors, array) + self.estimate_argument_error(errors, array[:1]) for array in inputs]
        is_uncertain = np.zeros((1, *output.shape[1:]), np.bool_)
        for signs in product((-1.0, 1.0), repeat=len(inputs)):
            moved = [array + sign * move for array, sign, move in zip(at_point, signs, moves, strict=True)]
            moved_branch = self.select_branch(*moved)
            assert moved_branch is not None
            is_other = self.find_changed_pieces(branch, moved_branch)
            is_uncertain |= self.mask_outputs(is_other, output.shape[1:])
        if is_uncertain.any():
            output = np.concatenate([output[:1], np.where(is_uncertain, np.nan, output[1:])])
        return output

    def mask_outputs(self, pieces: Array, shape: Shape) -> Array:
        """Return the mask of the outputs, (1, *shape), on pieces that a mask selects.

        The default is that each output has one piece.
        """
        return pieces

    def estimate_argument_error(self, errors: ErrorModel, array: Array) -> Array:
        """Return the error with which an input is compared with the place of a jump. The default is 0."""
        return np.zeros_like(array)


def bound_moves(errors: ErrorModel, array: Array) -> Array:
    """Return the largest error of an input in the arithmetic's own size, (1, ...)."""
    if len(array) == 1:
        return np.zeros_like(array)
    deviations = array[1:] - array[:1]
    return _SAFETY_FACTOR * errors.spread_scale * np.sqrt(np.square(deviations).mean(axis=0, keepdims=True))
