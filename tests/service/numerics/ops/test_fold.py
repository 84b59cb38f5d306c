import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

ATTRIBUTES = {"kernel_size": [2, 3], "padding": [1, 2], "dilation": [2, 1], "stride": [1, 2]}


def test_fold_is_the_adjoint_of_unfold() -> None:
    """For all x and s: <unfold(x), s> = <x, fold(s)>."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1, 2, 3, 4, 5))
    columns = OP_REGISTRY["unfold"](**ATTRIBUTES).forward(x)
    s = generator.normal(size=columns.shape)
    image = OP_REGISTRY["fold"](output_size=[4, 5], **ATTRIBUTES).forward(s)
    np.testing.assert_allclose((columns * s).sum(), (image * x).sum(), rtol=1e-12)


def test_overlapping_patches_add_up() -> None:
    y = OP_REGISTRY["fold"](output_size=[1, 3], kernel_size=[1, 2]).forward(np.array([[[1.0, 2.0], [4.0, 8.0]]]))
    np.testing.assert_array_equal(y, [[[[1, 6, 8]]]])


@pytest.mark.parametrize(
    ("shape", "words"),
    [((5, 4), "a multiple of 4"), ((4,), "(C, L)"), ((4, 5), "4 patches along the last axis")],
)
def test_patches_that_do_not_fit_are_refused(shape, words) -> None:
    assert words in get_refusal("fold", {"output_size": 3, "kernel_size": 2}, shape)
