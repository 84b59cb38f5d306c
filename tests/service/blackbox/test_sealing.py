import json

from schemas.plan import Plan
from service.blackbox.sealing import opened
from service.checking.question import Limits
from service.plan import plan
from tests.service.blackbox.asking import asked


def test_a_plan_is_opened_as_it_was_sealed():
    found = plan(asked("coordinates"))
    wire = json.loads(json.dumps(dict(found.plan)))
    again = opened(Plan.model_validate(wire), Limits(), 1)
    for name, each in found.points.items():
        assert (again.layout.stacked(name) == each.array).all()
