import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_slices_are_those_of_python() -> None:
    x = np.arange(7.0)[None]
    for start in (None, -9, -3, 0, 2):
        for end in (None, -1, 4, 99):
            for step in (1, 2, 9):
                expected = x[0, start:end:step]
                op = OP_REGISTRY["slice"](start=start, end=end, step=step)
                if not expected.size:
                    assert "has a position" in get_refusal("slice", {"start": start, "end": end, "step": step}, (7,))
                    continue
                np.testing.assert_array_equal(op.forward(x)[0], expected)
                (by_x,) = op.backward(op.forward(x), op.forward(x), x)
                np.testing.assert_array_equal(by_x[0], np.where(np.isin(x[0], expected), x[0], 0))


@pytest.mark.parametrize(("offset", "dims"), [(0, (-2, -1)), (2, (0, 1)), (-1, (2, 0)), (1, (1, 0))])
def test_embedded_diagonals_are_those_of_pytorch(offset: int, dims: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3))
    op = OP_REGISTRY["diag_embed"](offset=offset, dim1=dims[0], dim2=dims[1])
    np.testing.assert_array_equal(op.forward(x)[0], torch.diag_embed(torch.tensor(x[0]), offset, *dims))


def test_gradients_of_patches_add_up_where_they_overlap() -> None:
    op = OP_REGISTRY["unfold"](kernel_size=2)
    x = np.zeros((1, 1, 3, 3))
    y = op.forward(x)
    assert y.shape == (1, 4, 4)
    np.testing.assert_array_equal(op.backward(np.ones_like(y), y, x)[0][0, 0], [[1, 2, 1], [2, 4, 2], [1, 2, 1]])


def test_padding_larger_than_memory_has_few_patches() -> None:
    """The patches of a padded image are listed without the image."""
    op = OP_REGISTRY["unfold"](kernel_size=1, padding=10**9, stride=10**9)
    y = op.forward(np.full((1, 1, 1, 1), 5.0))
    np.testing.assert_array_equal(y[0], [[0, 0, 0, 0, 5, 0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("name", "attributes", "shape", "words"),
    [
        ("slice", {"start": 3, "end": 2}, (5,), "has a position"),
        ("slice", {}, (), "one axis or more"),
        ("diag_embed", {"dim1": 0, "dim2": 0}, (3,), "two different axes"),
        ("diag_embed", {}, (), "one axis or more"),
        ("unfold", {"kernel_size": 4}, (1, 3, 3), "no larger than the padded image"),
        ("unfold", {"kernel_size": 1}, (3, 3), "(C, H, W)"),
    ],
)
def test_moves_refuse_by_name(name, attributes, shape, words) -> None:
    assert words in get_refusal(name, attributes, shape)
