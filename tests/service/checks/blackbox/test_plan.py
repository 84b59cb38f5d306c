"""From a request to points, without HTTP."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.plan import plan_evaluations
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.plan_requests import EXAMPLE_POINT, make_plan_request


def collect_errors(body, limits=None, binary=False):
    with pytest.raises(InvalidRequestError) as error:
        plan_evaluations(body, limits, binary=binary)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


@pytest.mark.parametrize("kind", ["random", "coordinates"])
def test_plan_has_the_stated_count_and_shapes_of_points(kind):
    plan_result = plan_evaluations(make_plan_request(kind))
    answer = plan_result.answer
    assert len(answer["points"]) == answer["evaluations"] == plan_result.evaluations
    assert np.shape(answer["points"][-1]["w1"]) == (2, 2)
    assert answer["points"][0]["w1"].tolist() == EXAMPLE_POINT["w1"]
    for point in answer["points"]:
        assert (np.float32(point["b"]) == point["b"]).all()


def test_same_request_has_the_same_plan():
    assert plan_evaluations(make_plan_request()).plan == plan_evaluations(make_plan_request()).plan
    assert plan_evaluations(make_plan_request()).plan != plan_evaluations(make_plan_request(seed=4)).plan


def test_tensors_stay_in_the_order_of_the_request():
    names = ["z", "b", "a"]
    plan_result = plan_evaluations({"point": {name: [0.5, 1.0] for name in names}})
    answer = plan_result.answer
    assert (
        answer["order"] == plan_result.plan["order"] == list(answer["points"][0]) == list(plan_result.points) == names
    )


WRONG = {
    "no point": ({"point": {}}, "/point"),
    "an integer tensor": ({"point": {"w": {"datatype": "INT64", "shape": [1], "data": [1]}}}, "/point/w"),
    "a scale of nothing": ({"scale": {"z": 1.0}}, "/scale/z"),
    "a negative scale": ({"scale": {"w1": -1.0}}, "/scale/w1"),
    "a scale too small": ({"scale": {"b": 1e-9}}, "/scale/b"),
    "a scale below what floats have room for": ({"scale": {"b": 1e-300}}, "/scale/b"),
    "a scale beyond it": ({"scale": {"b": 1e300}}, "/scale/b"),
    "a scale too large": ({"scale": {"b": 1e40}}, "/scale/b"),
    "a kind": ({"directions": {"kind": "all"}}, "/directions/kind"),
    "a count": ({"directions": {"kind": "random", "count": 0}}, "/directions/count"),
    "an unknown field": ({"sed": 1}, "/sed"),
    "a seed": ({"seed": -1}, "/seed"),
}


@pytest.mark.parametrize(("change", "place"), WRONG.values(), ids=WRONG)
def test_invalid_plan_request_is_refused_at_its_place(change, place):
    assert place in collect_errors(make_plan_request() | change)


def test_too_many_points_are_refused_with_what_would_fit():
    body = make_plan_request(point={"w": [0.5] * 10_000}, directions={"kind": "coordinates"})
    assert "a count of 13 would fit" in collect_errors(body)["/directions/count"]
    assert "a count of 118 would fit" in collect_errors(body, binary=True)["/directions/count"]
    assert plan_evaluations(body | {"directions": {"kind": "coordinates", "count": 13}}).evaluations == 19 + 13 * 14
    assert "not one direction" in collect_errors(body, Limits(elements=1000))["/directions/count"]
    assert "/point" in collect_errors(make_plan_request(), Limits(names=1))
    assert "/point/w1" in collect_errors(make_plan_request(), Limits(dimensions=1))
