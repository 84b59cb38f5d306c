import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.parse import parse_judge_request, parse_plan_request
from service.checks.common.limits import Limits


def test_defaults_are_filled_in():
    request = parse_plan_request({"point": {"w": [1.0]}}, Limits())
    assert (request.directions.kind, request.directions.count, request.seed, request.scale) == ("random", None, 0, None)


@pytest.mark.parametrize("parse", [parse_plan_request, parse_judge_request])
def test_missing_field_is_named(parse):
    with pytest.raises(InvalidRequestError) as error:
        parse({}, Limits())
    assert error.value.errors[0]["pointer"] in ("/point", "/plan")
