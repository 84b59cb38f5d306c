"""Sizes of plans, and their limits."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.outputs import OutputRequest
from service.checks.blackbox.plan_size import SizeLimit, check_plan_size, count_evaluations, count_tensor_numbers
from service.checks.common.limits import Limits
from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import STEP_SCHEDULES

POINTS = {name: TensorPoint(np.ones(size), STEP_SCHEDULES["FP32"], 1.0) for name, size in (("a", 3), ("b", 7))}


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("count", [1, 5, 9])
def test_planned_evaluation_count_equals_the_layout(random, count):
    layout = lay_out_evaluations(POINTS, random=random, count=count, seed=0)
    assert layout.evaluation_count == count_evaluations(POINTS, count, random=random)


def check(outputs, most, count=4):
    check_plan_size(POINTS, OutputRequest(outputs), random=True, count=count, limit=SizeLimit(Limits(elements=most)))


def test_the_largest_plan_within_the_limit_is_accepted():
    evaluations = count_evaluations(POINTS, 4, random=True)
    for outputs, numbers in (({}, count_tensor_numbers([3, 7])), ({"y": (100, 2)}, count_tensor_numbers([200]))):
        check(outputs, evaluations * numbers)
        with pytest.raises(InvalidRequestError, match="a count of 3 would fit") as error:
            check(outputs, evaluations * numbers - 1)
        assert error.value.reason == "over-budget"


def test_memory_limits_the_numbers_too():
    limit = SizeLimit(Limits(elements=10**9, bytes=24_000), size_factor=8)
    assert limit.most_numbers == 1000
    assert not limit.format_hint
