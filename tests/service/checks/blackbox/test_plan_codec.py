import json

from schemas.plan import Plan
from service.checks.blackbox.plan import plan_evaluations
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.plan_requests import make_plan_request


def test_a_plan_is_opened_as_it_was_sealed():
    plan_result = plan_evaluations(make_plan_request("coordinates"))
    wire = json.loads(json.dumps(dict(plan_result.plan)))
    again = decode_plan(Plan.model_validate(wire), Limits(), 1)
    for name, point in plan_result.points.items():
        assert (again.layout.stack_points(name) == point.array).all()
