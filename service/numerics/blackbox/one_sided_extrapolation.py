"""Differences of one side extrapolated to the step 0, with a bound.

On one side a difference has all powers of its step, where a central one has the even ones alone. With f(t) the loss at
the base moved by t v,

    Q(t) = (f(t) - f(0)) / t = D + c_1 t + c_2 t^2 + ...,                                                            (1)

and Neville's table over nodes |t_0| > |t_1| > ..., all of one sign, of any ratio and not the same for all lines,

    A[i,0] = Q(t_i),    A[i,c] = A[i,c-1] + (A[i,c-1] - A[i-1,c-1]) t_i / (t_{i-c} - t_i),                           (2)

takes away one power of t in each column: A[i,c] is the derivative at 0 of the polynomial through 0, t_{i-c} ... t_i,
and off by (-1)^c f^(c+2)(x) / (c+2)! t_{i-c} ... t_i, x between (Lagrange's remainder, differentiated at a node). So
|A[i,c] - A[i-1,c-1]| is what A[i-1,c-1] was off by, up to what A[i,c] is off by itself, and falls from row to row of a
column as t_{i-1} / t_{i-c-1}. As for central differences (extrapolation.py) an entry is taken to be off by the larger
of that and |A[i,c] - A[i,c-1]|, by no less than the row before leads to expect, and by what finer steps and finer
entries say otherwise. Five things are others:

- all of that is taken three times: a central column takes two powers of the step away from what its neighbours tell,
  and hides a coincidence the better;
- each entry is sum_l w_l Q(t_l) with weights from (2), and the base is in all of the Q: errors of the loss of
  deviations s_l and s leave it off by sqrt(sum_l (w_l s_l / t_l)^2 + (s sum_l w_l / t_l)^2). With noise s
  everywhere and steps of 1/8 to 1/128, four columns leave 523 s, where a central table of these leaves 133 s;
- the base may lie beside the line by a rounding, f(0) known up to o alone: o |sum_l w_l / t_l|;
- a kink at the base is none on one side: the derivative to that side is what is found;
- the base may be apart from what is around it, as where a pole is nearer to it than the smallest step. There Q grows as
  1 / t, and its slope (Q(t_i) - Q(t_{i-1})) / (t_i - t_{i-1}) = 1 / (t_i t_{i-1}) by t_{i-2} / t_i from step to step.
  That of a smooth loss comes to be c_1. If the last two have grown by more than the root of it, and the change is
  more than noise, no difference knows anything of the derivative.

The entry with the smallest bound is taken.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox import neville
from service.numerics.blackbox.convergence import bound_slow_convergence
from service.numerics.blackbox.extrapolation import CERTAIN_DEVIATIONS, TABLE_ROUNDING, ExtrapolatedDerivatives
from service.numerics.blackbox.neville import TableEntries
from service.numerics.core.batching import Array

MIN_NODES = 4
_MIN_SETTLED_ROWS = 3
"""Rows before any entry has neighbours by which to see whether it has settled: one more than of central differences,
whose second row has lost as many powers."""
_ERROR_SAFETY = 3.0
"""Factor on the apparent error of an entry. Among 57,000 lines of smooth losses, in all datatypes and with noise of all
kinds, 8 are then off by more than their bound, by half of it at most; without the factor 162, by thrice at most."""


@dataclass(frozen=True)
class OneSidedSamples:
    """A loss along k lines, at nodes of one side, by falling distance.

    Attributes
    ----------
    nodes
        t, of one sign, in units of the moves, (k, m).
    losses, noise
        Losses, and the deviation of their noise, (k, m).
    base_loss, base_noise
        Loss and deviation at t = 0, each a number or (k,).
    base_displacement
        Further error of the loss at t = 0, (k,).
    """

    nodes: Array
    losses: Array
    noise: Array
    base_loss: Array | float
    base_noise: Array | float
    base_displacement: Array

    @property
    def quotients(self) -> Array:
        """Q(t), (k, m)."""
        return (self.losses - np.reshape(self.base_loss, (-1, 1))) / self.nodes


def extrapolate_one_sided(samples: OneSidedSamples) -> ExtrapolatedDerivatives:
    """Extrapolate differences of one side to the step 0."""
    quotients, nodes = samples.quotients, np.abs(samples.nodes)
    error_ratios = nodes[:, 1:] / nodes[:, :-1]
    certain_errors = CERTAIN_DEVIATIONS * np.hypot(samples.noise, np.reshape(samples.base_noise, (-1, 1))) / nodes
    values, weights = neville.build_table(quotients, nodes)
    entries = sorted(values)
    entry_values = np.stack([values[entry] for entry in entries])
    deviations, base_errors = _compute_entry_deviations(samples, np.stack([weights[entry] for entry in entries]))
    rounding = np.stack([(np.abs(quotients * weights[entry])).sum(axis=1) for entry in entries]) * TABLE_ROUNDING
    errors_by_entry = _estimate_entry_errors(values, nodes)
    certain_entry_errors = CERTAIN_DEVIATIONS * deviations + rounding + base_errors
    bounds = _ERROR_SAFETY * np.stack([errors_by_entry[entry] for entry in entries]) + certain_entry_errors
    slow_bounds = bound_slow_convergence(values, dict(zip(entries, certain_entry_errors, strict=True)), nodes)
    bounds = np.maximum(bounds, np.stack([slow_bounds[entry] for entry in entries]))
    bounds[np.isnan(bounds) | ~np.isfinite(entry_values)] = np.inf
    rows = np.array([row for row, _ in entries])
    bounds[rows < _MIN_SETTLED_ROWS] = np.inf
    bounds[:, _is_base_apart(quotients, nodes, certain_errors + samples.base_displacement[:, None] / nodes)] = np.inf
    bounds = np.maximum(
        bounds,
        neville.measure_disagreement_with_finer(rows, entry_values, bounds, quotients, error_ratios, certain_errors),
    )
    best_entries, bound = neville.choose_best_entries(rows, entry_values, bounds)
    lines = np.arange(len(best_entries))
    value = entry_values[best_entries, lines]
    is_contested = neville.find_contested(value, rows[best_entries], quotients, error_ratios, certain_errors)
    return ExtrapolatedDerivatives(value, bound, deviations[best_entries, lines], is_contested)


def _is_base_apart(quotients: Array, nodes: Array, certain_errors: Array) -> Array:
    """Return the mask of the lines whose base is apart from its surroundings, (k,)."""
    changes: Array = np.abs(np.diff(quotients[:, -4:], axis=1))
    slopes = changes / -np.diff(nodes[:, -4:], axis=1)
    is_growing = slopes[:, 1:] > slopes[:, :-1] * np.sqrt(nodes[:, -4:-2] / nodes[:, -2:])
    is_significant: Array = changes[:, -1] > certain_errors[:, -1] + certain_errors[:, -2]
    return is_significant & np.logical_and.reduce(is_growing, axis=1)


def _compute_entry_deviations(samples: OneSidedSamples, weights: Array) -> tuple[Array, Array]:
    """Return the noise of entries and the error of their base, both (entries, k)."""
    quotient_weights = weights / samples.nodes
    node_deviations = np.sqrt(np.square(quotient_weights * samples.noise).sum(axis=2))
    base_factors = np.abs(quotient_weights.sum(axis=2))
    return np.hypot(node_deviations, samples.base_noise * base_factors), samples.base_displacement * base_factors


def _estimate_entry_errors(values: TableEntries, nodes: Array) -> TableEntries:
    """Return the error of each entry beside noise, (k,)."""
    entry_errors: TableEntries = {}
    for row, column in sorted(values):
        value = values[row, column]
        if row == 0:
            entry_errors[row, column] = np.full(value.shape, np.inf)
            continue
        error = np.abs(value - values[row - 1, max(column - 1, 0)])
        # Steps that lie close together differ by less than they are off; the next column tells by how much.
        error = np.maximum(error, np.abs(value - values[row, column - 1 if column else 1]))
        if row > max(column, 1):
            error_ratios = (
                nodes[:, row - 1] / nodes[:, row - column - 1] if column else nodes[:, row] / nodes[:, row - 1]
            )
            error = np.maximum(error, entry_errors[row - 1, column] * error_ratios)
        elif column > 1:
            error = np.maximum(error, entry_errors[row, column - 1] * nodes[:, row] / nodes[:, 0])
        entry_errors[row, column] = error
    return entry_errors
