"""Sampling against PyTorch in all modes, against a plane, and at the borders of cells."""

from typing import Any

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

GridSample = OP_REGISTRY["grid_sample"]


def compute_both(op: Any, x: Any, grid: Any) -> list[tuple[Any, Any]]:
    """Output and gradients by hand, beside those of PyTorch."""
    output = op.forward(x[None], grid[None])
    gradient = np.random.default_rng(3).normal(size=output.shape)
    leaves = [torch.tensor(array, requires_grad=True) for array in (x, grid)]
    theirs = op.torch_forward(torch, *leaves)
    expected = torch.autograd.grad(theirs, leaves, torch.tensor(gradient[0]))
    by_hand = op.backward(gradient, output, x[None], grid[None])
    return [(output[0], theirs.detach()), *((ours[0], its) for ours, its in zip(by_hand, expected, strict=True))]


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize(
    ("mode", "axes"), [("bilinear", 2), ("nearest", 2), ("bicubic", 2), ("bilinear", 3), ("nearest", 3)]
)
@pytest.mark.parametrize("reach", [0.9, 3.0, 40.0])
def test_all_modes_equal_pytorch(padding: str, align: bool, mode: str, axes: int, reach: float) -> None:
    generator = np.random.default_rng(axes)
    x = generator.normal(size=(2, 3, 3, 4, 2)[: axes + 2])
    grid = generator.uniform(-reach, reach, size=(2, *(3, 4, 2)[:axes], axes))
    op = GridSample(mode=mode, padding_mode=padding, align_corners=align)
    for ours, theirs in compute_both(op, x, grid):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [True, False])
def test_an_axis_of_one_element_is_sampled(padding: str, align: bool) -> None:
    generator = np.random.default_rng(0)
    x, grid = generator.normal(size=(1, 2, 1, 1)), generator.uniform(-2.5, 2.5, size=(1, 3, 4, 2))
    for ours, theirs in compute_both(GridSample(padding_mode=padding, align_corners=align), x, grid):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_a_plane_is_sampled_exactly() -> None:
    rows, columns = np.mgrid[:5, :7].astype(float)
    x = (2 + 3 * rows - 4 * columns)[None, None, None]
    grid = np.random.default_rng(0).uniform(-0.7, 0.7, size=(1, 1, 3, 2, 2))
    op = GridSample(align_corners=True)
    u, v = (grid[..., 0] + 1) * 3, (grid[..., 1] + 1) * 2
    output = op.forward(x, grid)
    np.testing.assert_allclose(output[:, :, 0], 2 + 3 * v - 4 * u, rtol=1e-13)
    by_grid = op.backward(np.ones_like(output), output, x, grid)[1]
    np.testing.assert_allclose(by_grid, np.broadcast_to([-4 * 3.0, 3 * 2.0], grid.shape), rtol=1e-12)
    wrong = op.bugs["axes_permuted"].backward(op, np.ones_like(output), output, x, grid)[1]
    assert not np.allclose(wrong, by_grid)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_borders_of_cells_are_choices_between_both_slopes(padding: str) -> None:
    """x = 0 1 4 along the columns: slopes of 1 and 3 beside the middle one; the rows are alike."""
    x = np.array([[[[[0.0, 1.0, 4.0]] * 3]]])
    grid = np.array([[[[[0.0, 0.25]]]]])
    op = GridSample(padding_mode=padding, align_corners=True)
    choices = op.list_subgradient_choices([np.zeros_like(x), np.zeros_like(grid)], x, grid)
    assert choices is not None
    np.testing.assert_allclose(choices.entry_coefficients, [1, 3])
    assert choices.entry_elements.tolist() == [0, 0]
    assert choices.entry_positions.tolist() == [1, 1]
    assert choices.weights.tolist() == [0, 1]
    assert choices.is_exact_tie.all()
    by_grid = op.backward(np.ones((1, 1, 1, 1, 1)), np.zeros((1, 1, 1, 1, 1)), x, grid)[1]
    np.testing.assert_allclose(by_grid.ravel(), [3, 0])
    apart = op.list_subgradient_choices([np.zeros_like(x), np.zeros_like(grid)], x, grid + 0.1)
    near = op.list_subgradient_choices([np.zeros_like(x), np.full_like(grid, 0.2)], x, grid + 0.1)
    assert apart is None
    assert near is not None
    assert not near.is_exact_tie.any()


@pytest.mark.parametrize(("place", "slopes"), [(-1.0, [0, 1]), (1.0, [3, 0])])
def test_the_border_of_the_image_is_a_choice_where_places_outside_are_moved_there(place: float, slopes: list) -> None:
    x, grid = np.array([[[[[0.0, 1.0, 4.0]] * 3]]]), np.array([[[[[place, 0.25]]]]])
    op = GridSample(padding_mode="border", align_corners=True)
    choices = op.list_subgradient_choices([np.zeros_like(x), np.zeros_like(grid)], x, grid)
    assert choices is not None
    np.testing.assert_allclose(choices.entry_coefficients, slopes)
    assert choices.weights[slopes.index(0)] == 1
    smooth = GridSample(padding_mode="border", align_corners=True, mode="bicubic")
    assert smooth.list_subgradient_choices([np.zeros_like(x), np.zeros_like(grid)], x, grid) is None


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((1, 2, 3, 4), (1, 2, 2, 3)), "a grid (N, h, w, 2)"),
        ({}, ((1, 2, 3, 4), (2, 2, 2, 2)), "a grid (N, h, w, 2)"),
        ({}, ((1, 2, 3, 4), (1, 2, 2, 2, 3)), "a grid (N, h, w, 2)"),
        ({"mode": "bicubic"}, ((1, 1, 2, 3, 4), (1, 2, 2, 2, 3)), "for bicubic"),
    ],
)
def test_grid_sample_refuses_mismatched_inputs(attributes: Any, shapes: Any, words: str) -> None:
    assert words in get_refusal("grid_sample", attributes, *shapes)
