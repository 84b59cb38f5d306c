import numpy as np

from service.numerics.ties import TieStatus


def test_tie_status_is_reshaped_and_sampled_as_a_whole():
    standing = TieStatus(*(np.arange(6) == index for index in range(4)))
    assert standing.reshape_masks((2, 3)).undecided[0, 2]
    assert standing.reshape_masks((2, 3)).select_elements(np.array([3, 1])).impossible.tolist() == [True, False]
