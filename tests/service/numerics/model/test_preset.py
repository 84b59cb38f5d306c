import numpy as np

from service.numerics.model.preset import ExampleValues, Preset, make_node


def test_examples_are_the_same_every_time_and_short() -> None:
    first, second = (ExampleValues(5).draw_normal(3, 4) for _ in range(2))
    assert first == second
    assert first != ExampleValues(6).draw_normal(3, 4)
    np.testing.assert_array_equal(np.round(first, 3), first)


def test_weight_of_a_layer_keeps_activations_near_one() -> None:
    weight = np.array(ExampleValues(0).draw_weight(50, 400))
    assert np.isclose(np.linalg.norm(weight, axis=1).mean(), 1, atol=0.05)


def test_labels_and_probabilities_lie_in_their_range() -> None:
    values = ExampleValues(0)
    assert set(values.draw_labels(3, 100)) == {0, 1, 2}
    probabilities = np.array(values.draw_unit_interval(100))
    assert 0 < probabilities.min() < probabilities.max() < 1


def test_example_request_is_of_the_name() -> None:
    preset = Preset("twice", "Doubling.", (make_node("y", "mul", "x", 2.0),), {}, {"x": [1.0]})
    assert preset.nodes == ({"name": "y", "op": "mul", "inputs": ["x", 2.0]},)
    assert preset.example_request == {"model": "twice", "tensors": {}, "weights": {"x": [1.0]}}
