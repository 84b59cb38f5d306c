import numpy as np

from service.numerics.ops.conv_geometry import crop_last_axes, make_geometry, pad_last_axes


def test_windows_of_all_offsets_are_the_padded_input_that_the_outputs_read() -> None:
    geometry = make_geometry((5, 4, 6), (2, 1, 3), (2, 3, 1), (2, 1, 2), (1, 0, 2), (0, 1, 1))
    padded = geometry.pad_input(np.random.default_rng(0).normal(size=(2, 5, 4, 6)))
    assert padded.shape == (2, 6, 5, 9)
    assert geometry.output == (2, 2, 5)
    assert len(geometry.kernel_offsets) == 6
    for offset in geometry.kernel_offsets:
        window = geometry.get_window(padded, offset)
        for place in np.ndindex(*geometry.output):
            index = tuple(p * s + i * d for p, s, i, d in zip(place, (2, 3, 1), offset, (2, 1, 2), strict=True))
            np.testing.assert_array_equal(window[:, *place], padded[:, *index])


def test_a_kernel_beyond_the_padded_input_has_no_output() -> None:
    assert make_geometry((3,), (4,), (1,), (1,), (0,), (0,)).output == (0,)
    assert make_geometry((3,), (4,), (1,), (1,), (0,), (1,)).output == (1,)


def test_cropping_undoes_padding() -> None:
    x = np.arange(6.0).reshape(1, 2, 3)
    padded = pad_last_axes(x, [(1, 0), (0, 2)], np.inf)
    assert padded.shape == (1, 3, 5)
    assert np.isinf(padded).sum() == 9
    np.testing.assert_array_equal(crop_last_axes(padded, [(1, 0), (0, 2)]), x)
