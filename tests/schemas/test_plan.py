import pytest
from pydantic import ValidationError

from schemas.plan import Plan, PlanRequest

PLAN = {
    "version": 1,
    "seed": "0",
    "directions": {"kind": "random", "count": 4},
    "point": {"w": [1.0]},
    "scale": {"w": 1},
    "evaluations": 75,
    "checks": {},
}


def test_a_plan_survives_languages_without_integers_of_64_bits():
    plan = Plan.model_validate(PLAN | {"seed": str(2**63 - 1)})
    assert int(plan.seed) == 2**63 - 1
    assert plan.scale["w"] == 1.0


@pytest.mark.parametrize("change", [{"seed": 0}, {"seed": "01"}, {"seed": "-1"}, {"point": {}}, {"more": 1}])
def test_another_form_is_refused(change):
    with pytest.raises(ValidationError):
        Plan.model_validate(PLAN | change)


def test_the_scale_is_a_positive_number():
    with pytest.raises(ValidationError):
        PlanRequest.model_validate({"point": {"w": [1.0]}, "scale": {"w": 0}})
