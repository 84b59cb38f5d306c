import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.subgradient_choices import choose_among_elements, choose_between_derivatives, merge_choices

TIED = [
    ("relu", [[0.0, 1.0, -1.0, 0.0]], {}, 2),
    ("leaky_relu", [[0.0, 1.0, -1.0]], {}, 1),
    ("elu", [[0.0, 1.0]], {"alpha": 0.5}, 1),
    ("abs", [[0.0, 1.0, -1.0]], {}, 1),
    ("clamp", [[0.0, 1.0, 0.5, 2.0]], {"min": 0.0, "max": 1.0}, 2),
    ("clamp", [[0.0, 1.0, 2.0]], {"min": 1.0, "max": 1.0}, 1),
    ("maximum", [[0.0, 1.0, 2.0], [[0.0], [1.0]]], {}, 2),
    ("minimum", [[0.0, 1.0, 2.0], 1.0], {}, 1),
    ("amax", [[[2.0, 2.0, 1.0], [1.0, 3.0, 3.0]]], {"dim": 1}, 2),
    ("vector_norm", [[[0.0, 0.0], [1.0, 0.0]]], {"dim": 1}, 1),
    ("vector_norm", [[[0.0, 0.0], [1.0, 0.0]]], {"dim": 1, "ord": 1}, 3),
    ("vector_norm", [[[0.0, 0.0], [1.0, -1.0]]], {"dim": 1, "ord": "inf"}, 2),
    ("max_pool2d", [[[[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]], {"kernel_size": 2, "stride": 1}, 2),
    ("l1_loss", [[1.0, 2.0], [1.0, 0.0]], {}, 1),
    ("cosine_embedding_loss", [[[1.0, 0.0]], [[0.0, 1.0]], [-1.0]], {}, 1),
    ("hinge_embedding_loss", [[1.0, 1.0, 2.0, 1.0], [-1.0, 1.0, -1.0, 0.0]], {}, 2),
    ("triplet_margin_loss", [[[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 1.0]]],
     {"eps": 0.0}, 1),
    ("triplet_margin_loss", [[[0.0, 0.0]], [[2.0, 0.0]], [[1.0, np.sqrt(3)]]], {"eps": 0.0, "swap": True}, 1),
]  # fmt: skip


def list_choices(name, inputs, attributes):
    op, given = OP_REGISTRY[name](**attributes), [np.array([array], np.float64) for array in inputs]
    return op, given, op.list_subgradient_choices([np.spacing(np.abs(value)) for value in given], *given)


@pytest.mark.parametrize(("name", "inputs", "attributes", "units"), TIED)
def test_own_weights_hand_back_what_the_backward_pass_does(name, inputs, attributes, units):
    """Aside from the ties a backward pass is the same by all weights: moving off them changes the units alone."""
    op, given, choices = list_choices(name, inputs, attributes)
    assert choices is not None
    assert int(choices.units[-1]) + 1 == units
    output = op.forward(*given)
    gradient = np.random.default_rng(1).normal(size=output.shape)
    results = op.backward(gradient, output, *given)
    by_entry = (
        choices.entry_coefficients
        * (choices.weights * gradient.ravel()[choices.output_indices])[choices.entry_alternatives]
    )
    for position, result in enumerate(results):
        own = choices.entry_positions == position
        handed = np.zeros(given[position].size)
        np.add.at(handed, choices.entry_elements[own], by_entry[own])
        alone = np.setdiff1d(np.arange(handed.size), choices.entry_elements[own])
        assert np.all(handed[alone] == 0)
        if name in ("relu", "abs", "amax", "l1_loss", "maximum", "minimum", "clamp") and own.any():
            only = np.unique(choices.entry_elements[own])
            if name in ("relu", "abs", "amax", "l1_loss", "clamp"):
                np.testing.assert_allclose(handed[only], result.ravel()[only])
    assert np.all(choices.weights <= 1)
    if choices.ball_order is None:
        np.testing.assert_allclose(np.bincount(choices.units, choices.weights), 1)


@pytest.mark.parametrize(
    ("name", "inputs", "attributes"),
    [
        ("relu", [[0.5, -1.0]], {}),
        ("amax", [[1.0, 2.0]], {}),
        ("max_pool2d", [[[[1.0, 2.0], [0.0, 3.0]]]], {"kernel_size": 2}),
        ("smooth_l1_loss", [[1.0], [1.0]], {}),
        ("vector_norm", [[0.0, 0.0]], {"ord": 0.5}),
        ("tanh", [[0.0]], {}),
    ],
)
def test_inputs_without_ties_declare_no_choices(name, inputs, attributes):
    assert list_choices(name, inputs, attributes)[2] is None


def test_tie_within_input_errors_is_declared():
    op, given = OP_REGISTRY["relu"](), [np.array([[1e-9, 1.0]])]
    assert op.list_subgradient_choices([np.full((1, 2), 1e-10)], *given) is None
    choices = op.list_subgradient_choices([np.full((1, 2), 1e-8)], *given)
    assert choices is not None
    assert choices.weights.tolist() == [0, 1]
    assert not choices.is_exact_tie.any()


def test_merged_choices_keep_their_entries_apart():
    places = np.array([0, 1])
    one = choose_between_derivatives(places, np.zeros(2), np.ones(2, np.bool_), [(0, places, 0.0)], [(0, places, 1.0)])
    assert one is not None
    both = merge_choices([one, None, one])
    assert both is not None
    assert both.units.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(both.entry_alternatives.tolist()) == list(range(8))
    assert merge_choices([None]) is None


def test_unit_with_one_alternative_is_no_choice():
    zeros = np.zeros(1, np.int64)
    assert choose_among_elements(zeros, zeros, zeros, np.ones(1), np.ones(1, np.bool_)) is None
