import pytest
from pydantic import ValidationError

from schemas.plan import Plan, PlanRequest

PLAN = {
    "version": 3,
    "seed": "0",
    "order": ["w"],
    "directions": {"kind": "random", "count": 4},
    "point": {"w": [1.0]},
    "scale": {"w": 1},
    "evaluations": 75,
    "checks": {},
}


def test_a_plan_survives_languages_without_integers_of_64_bits():
    plan = Plan.model_validate(PLAN | {"seed": str(2**63 - 1)})
    assert int(plan.seed) == 2**63 - 1
    assert plan.scale["w"].array == 1.0


@pytest.mark.parametrize("change", [{"seed": 0}, {"seed": "01"}, {"seed": "-1"}, {"point": {}}, {"more": 1}])
def test_another_form_is_refused(change):
    with pytest.raises(ValidationError):
        Plan.model_validate(PLAN | change)


def test_scales_and_bounds_are_numbers_or_tensors():
    request = PlanRequest.model_validate(
        {"point": {"w": [1.0, 2.0]}, "scale": {"w": [0.5, 1]}, "bounds": {"w": {"min": [0, "-Infinity"]}}}
    )
    assert request.scale is not None
    assert request.bounds is not None
    assert request.scale["w"].array.tolist() == [0.5, 1.0]
    assert request.bounds["w"].min.array.tolist() == [0.0, -float("inf")]
    assert request.bounds["w"].max.array == float("inf")
    assert request.bounds["w"].model_fields_set == {"min"}


@pytest.mark.parametrize(
    "change",
    [
        {"scale": {"w": float("inf")}},
        {"scale": {"w": "wide"}},
        {"scale": {"w": None}},
        {"bounds": {"w": 0}},
        {"bounds": {"w": {"least": 0}}},
        {"bounds": {"w": {"min": None}}},
    ],
)
def test_invalid_field_of_a_plan_request_is_refused(change):
    with pytest.raises(ValidationError):
        PlanRequest.model_validate({"point": {"w": [1.0]}} | change)
