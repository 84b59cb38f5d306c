"""Rows of comparisons become entries in the stated order."""

import numpy as np

from service.numerics.blackbox.comparison_entries import flatten_comparison, join_comparisons
from service.numerics.blackbox.line_comparison import compare_candidate
from service.numerics.core.precision import PRECISIONS
from tests.service.numerics.blackbox.stated_derivatives import make_derivatives, make_element_lines, make_point


def make_comparison():
    point, rows = make_point(np.array([1.0, 2.0, 3.0])), np.arange(6.0).reshape(2, 3)
    reference = make_derivatives(rows, 1e-12)
    return rows, compare_candidate(make_element_lines(point), point, rows + 1, reference, PRECISIONS["FP64"])


def test_comparison_entries_are_ordered_by_row_or_by_line():
    rows, comparison = make_comparison()
    by_row, by_line = flatten_comparison(comparison), flatten_comparison(comparison, transpose=True)
    assert (by_row.candidate_derivatives == rows.ravel() + 1).all()
    assert (by_line.candidate_derivatives == rows.T.ravel() + 1).all()
    assert (by_line.reference.value == rows.T.ravel()).all()
    assert (by_row.cause_positions.reshape(2, 3) == comparison.cause_positions).all()
    assert by_row.allowance.move_sizes.shape == (6,)


def test_joined_comparisons_keep_their_order():
    _, comparison = make_comparison()
    entries = flatten_comparison(comparison)
    joined = join_comparisons([entries, entries])
    assert (joined.errors == np.tile(entries.errors, 2)).all()
    assert joined.precision == entries.precision
