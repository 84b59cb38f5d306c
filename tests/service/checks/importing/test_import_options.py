"""Options are parsed, and wrong ones refused."""

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.importing.import_options import ImportOptions, parse_options

pytestmark = pytest.mark.covers_by_cases


@pytest.mark.parametrize("query", [{"seed": "-1"}, {"seed": "1e3"}, {"seed": str(2**63)}, {"loss": ""}, {"lss": "y"}])
def test_wrong_options_are_refused(query):
    with pytest.raises(InvalidRequestError):
        parse_options(query)
    assert parse_options({"seed": "7", "loss": "y"}) == ImportOptions("y", 7)


def test_the_options_have_defaults():
    assert parse_options({}) == ImportOptions("projection", 0)
    assert parse_options({"seed": str(2**63 - 1)}).seed == 2**63 - 1


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(InvalidRequestError) as caught:
        parse_options({"seed": "x", "lss": "y", "loss": ""})
    assert len(caught.value.errors) == 3
