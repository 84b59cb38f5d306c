import numpy as np
import pytest

from service.numerics.ops.grid_tables import GridGeometry


@pytest.mark.parametrize(("align", "expected"), [(True, [0.0, 1.5, 3.0, 4.5]), (False, [-0.5, 1.5, 3.5, 5.5])])
def test_places_run_from_edge_to_edge(align: bool, expected: list[float]) -> None:
    geometry = GridGeometry((4,), "bilinear", "zeros", align)
    np.testing.assert_allclose(geometry.find_places(np.array([[-1.0], [0.0], [1.0], [2.0]]))[:, 0], expected)
    np.testing.assert_allclose(geometry.get_scales(np.dtype(np.float64)), 1.5 if align else 2.0)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("padding", ["border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_weights_add_up_to_one_and_slopes_to_zero(mode, padding, align) -> None:
    geometry = GridGeometry((4, 3), mode, padding, align)
    grid = np.random.default_rng(0).uniform(-4, 4, (1, 1, 50, 2))
    tables = geometry.make_tables(geometry.select_pieces(grid), grid)
    for array, total in ((tables.weights, 1), (tables.slopes, 0)):
        np.testing.assert_allclose(array.sum(axis=-1), total, atol=1e-12)
        np.testing.assert_array_equal(array[~tables.is_inside], 0)


@pytest.mark.parametrize("align", [True, False])
def test_a_line_is_interpolated_exactly(align) -> None:
    """In the middle of the image, x = 3 + 2 e has the value 3 + 2 u and the slope 2 du/dg."""
    geometry = GridGeometry((9,), "bilinear", "zeros", align)
    grid = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 20, 1))
    tables = geometry.make_tables(geometry.select_pieces(grid), grid)
    elements = 3 + 2.0 * tables.indices
    np.testing.assert_allclose((tables.weights * elements).sum(axis=-1), 3 + 2 * geometry.find_places(grid), rtol=1e-12)
    np.testing.assert_allclose((tables.slopes * elements).sum(axis=-1), 2 * (4 if align else 4.5), rtol=1e-12)


def test_bicubic_weights_are_the_kernel_of_the_distances() -> None:
    geometry = GridGeometry((9,), "bicubic", "zeros", True)
    grid = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 20, 1))
    tables = geometry.make_tables(geometry.select_pieces(grid), grid)
    d = np.abs(geometry.find_places(grid)[..., None] - tables.indices)
    near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
    np.testing.assert_allclose(tables.weights, np.where(d <= 1, near, far), rtol=1e-11, atol=1e-13)


def test_a_piece_is_continued_beyond_its_cell() -> None:
    geometry = GridGeometry((5,), "bilinear", "zeros", True)
    grid = np.array([0.1, 0.3]).reshape(1, 1, 2, 1)
    moved = grid + 1.0
    tables = geometry.make_tables(geometry.select_pieces(grid), moved)
    np.testing.assert_array_equal(tables.indices[0, 0, :, 0], [[2, 3], [2, 3]])
    np.testing.assert_allclose(tables.weights[0, 0, :, 0], [[-1.2, 2.2], [-1.6, 2.6]])
    assert not np.array_equal(geometry.select_pieces(moved), geometry.select_pieces(grid))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_slopes_are_the_derivatives_of_the_weights_within_their_bounds(mode) -> None:
    geometry = GridGeometry((6, 3), mode, "reflection", False)
    grid = np.random.default_rng(1).uniform(-2, 2, (1, 1, 40, 2))
    pieces, step = geometry.select_pieces(grid), 1e-6
    high, low = (geometry.make_tables(pieces, grid + sign * step).weights for sign in (1, -1))
    tables = geometry.make_tables(pieces, grid)
    np.testing.assert_allclose((high - low) / (2 * step), tables.slopes, atol=1e-7)
    bounds = geometry.bound_errors(tables, grid)
    assert (bounds.weights >= np.abs(tables.weights)).all()
    assert (bounds.slopes >= np.abs(tables.slopes)).all()
