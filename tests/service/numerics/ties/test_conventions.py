import numpy as np

from service.numerics.ties import conventions
from tests.service.numerics.ties.tied_models import make_maximum, make_nested, make_tie_point


def test_own_first_last_and_even_are_tried():
    weights = conventions.combine_convention_weights(make_maximum([2.0, 2.0, 2.0, 1.0]))["m"]
    assert weights.tolist() == [[1 / 3] * 3, [1, 0, 0], [0, 0, 1], [1 / 3] * 3]


def test_kinds_of_ops_have_conventions_of_their_own():
    weights = conventions.combine_convention_weights(make_nested([0.0, 0.0]))
    assert set(weights) == {"a", "m"}
    assert len(np.unique(np.concatenate([*weights.values()], axis=1), axis=0)) == 9
    assert len(conventions.combine_convention_weights(make_nested([0.0, 0.0]), 5)["m"]) == 5


def test_conventions_of_many_ops_differ_in_one_op_at_a_time():
    ops = [("r", "relu"), ("a", "abs"), ("e", "leaky_relu"), ("c", "clamp")]
    nodes = [(name, op, ("x",), {"min": 0.0} if op == "clamp" else {}) for name, op in ops]
    nodes += [("s", "add", ("r", "a"), {}), ("t", "add", ("e", "c"), {}), ("u", "add", ("s", "t"), {})]
    at = make_tie_point([*nodes, ("loss", "sum", ("u",), {})], {"x": [0.0]})
    assert len(conventions.combine_convention_weights(at)["r"]) == 4 + 12


def test_corners_are_weights_that_may_be_chosen():
    (weights,) = conventions.draw_corner_weights(make_maximum([2.0, 2.0, 2.0]), 1).values()
    assert (weights.sum(axis=1) == 1).all()
    assert set(weights.ravel()) == {0, 1}
    norm = make_tie_point([("n", "vector_norm", ("x",), {}), ("loss", "mul", ("n", 2.0), {})], {"x": [0.0, 0.0]})
    (weights,) = conventions.draw_corner_weights(norm, 1).values()
    assert set(np.abs(weights).sum(axis=1)) == {1}
    assert (weights < 0).any()


def test_between_corners_every_alternative_has_a_weight_that_it_may_have():
    (weights,) = conventions.interpolate_choices(make_maximum([2.0, 2.0, 2.0]), 1).values()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights > 0).all()
    norm = make_tie_point(
        [("n", "vector_norm", ("x",), {"ord": 3}), ("loss", "mul", ("n", 2.0), {})], {"x": [0.0, 0.0]}
    )
    (weights,) = conventions.interpolate_choices(norm, 1).values()
    assert (np.linalg.norm(weights, 1.5, axis=1) <= 1).all()
    assert (weights != 0).all()
    assert (weights < 0).any()
