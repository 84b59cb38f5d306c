import pytest

from schemas.problem import InvalidRequestError
from service.blackbox.evaluated import evaluated
from tests.service.numerics.blackbox.losses import planned


def test_losses_that_are_not_finite_name_their_points():
    layout = planned([1.0, 2.0])
    losses = [1] * layout.evaluations
    assert evaluated(losses, layout).tolist() == losses
    losses[19], losses[0] = "-Infinity", True
    with pytest.raises(InvalidRequestError) as error:
        evaluated(losses, layout)
    first, second = error.value.errors
    assert first == {"pointer": "/losses/0", "detail": "must be a number; True was given"}
    assert "'w' moved along direction 0 by +2^-3 of its scale" in second["detail"]
