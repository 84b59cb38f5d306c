import numpy as np

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.capped_scores import find_seen_keys


def test_window_counts_from_the_last_query_and_key() -> None:
    np.testing.assert_array_equal(find_seen_keys(2, 4, 1, 0), [[0, 1, 1, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(find_seen_keys(3, 2, None, 0), [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(find_seen_keys(2, 2, None, None), [[1, 1], [1, 1]])


def test_scores_stay_below_the_cap_and_a_sink_takes_its_share() -> None:
    query, key = np.array([[[100.0, 0.0]]]), np.array([[[3.0, 0.0], [-3.0, 0.0]]])
    op = OP_REGISTRY["windowed_attention"](softcap=2.0, scale=1.0)
    inputs = (query, key, key, None, None, np.array([0.5]))
    np.testing.assert_allclose(op.compute_scores(inputs), [[[2, -2]]], rtol=1e-15)
    weights = op.compute_weights(inputs, inputs[5])
    total = np.exp(2) + np.exp(-2) + np.exp(0.5)
    np.testing.assert_allclose(weights.keys, [[[np.exp(2) / total, np.exp(-2) / total]]], rtol=1e-14)
    np.testing.assert_allclose(weights.sink, [[[np.exp(0.5) / total]]], rtol=1e-14)
    assert op.compute_weights(inputs, None).sink is None
