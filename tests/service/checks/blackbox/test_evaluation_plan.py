import numpy as np

from schemas.tensor import Tensor
from service.checks.blackbox.evaluation_plan import build_evaluation_plan
from service.checks.blackbox.plan_size import count_evaluations
from service.checks.blackbox.scales_and_bounds import MoveSettings
from service.checks.common.limits import Limits


def test_estimated_plan_size_is_the_size_of_the_plan():
    tensors = {"a": Tensor(np.ones(3), None, is_integral=False), "b": Tensor(np.ones(7), None, is_integral=False)}
    asked = MoveSettings({"a": Tensor(np.array(0.3), None, is_integral=False)}, {})
    for random in (True, False):
        plan = build_evaluation_plan(tensors, asked, random=random, count=5, seed=0, limits=Limits())
        assert plan.layout.points["a"].scale == 0.25
        assert plan.layout.evaluation_count == count_evaluations(
            plan.layout.points, plan.direction_count, random=random
        )
