import pytest

from schemas.problem import InvalidRequestError
from service.blackbox.language import parsed_judgement, parsed_plan
from service.checking.question import Limits


def test_defaults_are_filled_in():
    request = parsed_plan({"point": {"w": [1.0]}}, Limits())
    assert (request.directions.kind, request.directions.count, request.seed, request.scale) == ("random", None, 0, None)


@pytest.mark.parametrize("parse", [parsed_plan, parsed_judgement])
def test_what_is_missing_is_named(parse):
    with pytest.raises(InvalidRequestError) as error:
        parse({}, Limits())
    assert error.value.errors[0]["pointer"] in ("/point", "/plan")
