"""Sampling against PyTorch in all modes, against a plane, and at the borders of cells."""

from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS
from service.numerics.model.graph import Graph, Node
from service.numerics.model.rounding import estimate_rounding_allowances
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


def judge_slope(slope: float, place: float = 0.0, datatype: str = "FP64") -> str:
    """Outcome of a slope along columns 0 1 4, whose cells beside the middle one slope by 1 and 3."""
    nodes = [
        {"name": "y", "op": "grid_sample", "inputs": ["x", "grid"], "align_corners": True},
        {"name": "loss", "op": "sum", "inputs": ["y"]},
    ]
    request = {
        "model": {"nodes": nodes},
        "tensors": {"x": [[[[0.0, 1.0, 4.0]]]]},
        "weights": {"grid": [[[[place, 0.0]]]]},
        "candidate": {"grid": {"datatype": datatype, "shape": [1, 1, 1, 2], "data": [slope, 0.0]}},
    }
    return str(check(request)["outcome"])


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
@pytest.mark.parametrize(("slope", "outcome"), [(1, "pass"), (2, "pass"), (3, "pass"), (0.9, "fail"), (3.1, "fail")])
def test_a_check_at_the_border_of_a_cell_passes_both_slopes_and_what_lies_between(
    slope: float, outcome: str, datatype: str
) -> None:
    """The coordinate is 0, of which one unit in the last place is lost in the sum with 1."""
    assert judge_slope(slope, datatype=datatype) == outcome


@pytest.mark.parametrize(("place", "slope"), [(-0.01, 1), (0.01, 3)])
def test_a_check_inside_a_cell_passes_its_slope_alone(place: float, slope: float) -> None:
    assert judge_slope(slope, place) == "pass"
    assert judge_slope(2, place) == "fail"
    assert judge_slope(4 - slope, place) == "fail"


@pytest.mark.parametrize("slope", [1, 3])
def test_no_slope_fails_in_float32_where_its_rounding_decides_on_the_cell(slope: float) -> None:
    """A coordinate of 1e-9 is lost beside 1 in float32; in float64 it is within a cell."""
    assert judge_slope(slope, -1e-9, "FP32") != "fail"
    assert judge_slope(3, -1e-9) == "fail"


def estimate_errors(mode: str, place: float) -> tuple[Any, Any]:
    """Allowances of float32 by the elements of the image, and by the coordinates of the place."""
    leaves = {"input": np.array([[[[[0.0, 1.0, 4.0]]]]]), "grid": np.array([[[[[place, 0.0]]]]])}
    nodes = [
        Node("y", GridSample(mode=mode, align_corners=True), ("input", "grid")),
        Node("loss", OP_REGISTRY["sum"](), ("y",)),
    ]
    graph = Graph(nodes, {name: leaf.shape[1:] for name, leaf in leaves.items()})
    allowed = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP32"], 0, ["input", "grid"])
    return allowed["input"].ravel(), allowed["grid"].ravel()


def test_a_place_that_float32_takes_to_another_cell_has_no_limit_by_the_slope_alone() -> None:
    by_input, by_grid = estimate_errors("bilinear", 1e-9)
    assert np.isfinite(by_input).all()
    assert (by_input[0] > 1e-8, by_input.max() < 1e-5) == (True, True)
    assert np.isfinite(by_grid).tolist() == [False, True]
    assert np.isfinite(estimate_errors("bilinear", 1e-3)[1]).all()


def test_elements_between_which_rounding_decides_have_no_limit_for_nearest() -> None:
    by_input, _ = estimate_errors("nearest", 0.5 + 1e-9)
    assert np.isfinite(by_input).tolist() == [True, False, False]
    assert np.isfinite(estimate_errors("nearest", 0.5 + 1e-3)[0]).all()
