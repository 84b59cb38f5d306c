import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.looks import Look
from service.checks.blackbox.losses import read_losses
from service.numerics.blackbox.layout import lay_out_evaluations
from tests.service.numerics.blackbox.smooth_losses import make_layout, make_point


def mark_all_as_examined(layout):
    return Look("all", np.arange(layout.evaluation_count))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "the loss must have a value at the base, where the gradient is; null was given"),
        ([1], "must be a number, or null; a list was given"),
        ("one", "must be a number, or null; 'one' was given"),
        (float("inf"), "a number beyond the largest float64 is not finite: the loss must have a value at the base"),
        ("NaN", "'NaN' is not finite: the loss must have a value at the base"),
    ],
)
def test_invalid_loss_is_quoted_as_json(value, said):
    layout = make_layout([1.0, 2.0])
    with pytest.raises(InvalidRequestError) as error:
        read_losses([value, *[1] * (layout.evaluation_count - 1)], layout, mark_all_as_examined(layout))
    assert error.value.errors[0]["detail"].startswith(said)


def test_losses_that_are_not_finite_name_their_points():
    layout = make_layout([1.0, 2.0])
    losses = [1] * layout.evaluation_count
    assert read_losses(losses, layout, mark_all_as_examined(layout)).tolist() == losses
    losses[19], losses[0] = "-Infinity", True
    with pytest.raises(InvalidRequestError) as error:
        read_losses(losses, layout, mark_all_as_examined(layout))
    first, second = error.value.errors
    assert first == {"pointer": "/losses/0", "detail": "must be a number, or null; true was given"}
    assert "at point 19: 'w' moved along direction 0 by +2^-3 of its scale" in second["detail"]


def test_null_is_a_loss_without_a_value_but_at_the_base():
    layout = make_layout([1.0, 2.0])
    losses = [1.0] * layout.evaluation_count
    losses[3] = losses[-1] = None
    assert np.flatnonzero(np.isnan(read_losses(losses, layout, mark_all_as_examined(layout)))).tolist() == [
        3,
        layout.evaluation_count - 1,
    ]
    losses[2] = None
    with pytest.raises(InvalidRequestError) as error:
        read_losses(losses, layout, mark_all_as_examined(layout))
    assert [entry["pointer"] for entry in error.value.errors] == ["/losses/2"]


def collect_errors(losses, layout):
    with pytest.raises(InvalidRequestError) as error:
        read_losses(losses, layout, mark_all_as_examined(layout))
    return error.value.errors


def test_a_loss_that_diverged_is_one_error_however_many_there_are(monkeypatch):
    """350 tensors of one number each; none of the points is put into words."""
    points = {f"w{number}": make_point(np.ones(1)) for number in range(350)}
    layout = lay_out_evaluations(points, random=True, count=None, seed=0)
    assert layout.evaluation_count > 19_000
    monkeypatch.setattr(type(layout), "describe_evaluation", lambda *_: pytest.fail("nothing is told of single points"))
    (error,) = collect_errors(["NaN"] * layout.evaluation_count, layout)
    assert error["pointer"] == "/losses"
    assert f"none of the {layout.evaluation_count} losses is a finite number" in error["detail"]


def test_many_losses_that_are_not_finite_are_one_error_with_the_first(monkeypatch):
    layout = make_layout(np.ones(30), random=False)
    told = []
    monkeypatch.setattr(type(layout), "describe_evaluation", lambda _, number: told.append(number) or "somewhere")
    (error,) = collect_errors([1.0] * 20 + ["Infinity"] * (layout.evaluation_count - 20), layout)
    assert error["pointer"] == "/losses"
    assert "the first is number 20: 'Infinity' is not finite, at point 20: somewhere" in error["detail"]
    assert told == [20]
    assert len(collect_errors([1.0] * 20 + ["NaN"] * 100 + [1.0] * (layout.evaluation_count - 120), layout)) == 100


def test_losses_of_a_look_are_put_in_their_places():
    layout = make_layout([1.0, 2.0])
    look = Look("first", np.array([0, 1, 2, 19, 40]))
    losses = read_losses([1.0, 1.0, 1.0, 4.0, 5.0], layout, look)
    assert losses[[19, 40]].tolist() == [4.0, 5.0]
    assert np.isnan(losses).sum() == layout.evaluation_count - 5
    with pytest.raises(InvalidRequestError) as error:
        read_losses([1.0, 1.0, 1.0, "NaN", 5.0], layout, look)
    assert "at point 3: 'w' moved along direction 0 by +2^-3 of its scale" in error.value.errors[0]["detail"]
