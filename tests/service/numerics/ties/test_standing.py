import numpy as np

from service.numerics.ties import Standing


def test_a_standing_is_shaped_and_sampled_as_a_whole():
    standing = Standing(*(np.arange(6) == each for each in range(4)))
    assert standing.shaped((2, 3)).undecided[0, 2]
    assert standing.shaped((2, 3)).at(np.array([3, 1])).impossible.tolist() == [True, False]
