"""Requests made from our own OpenAPI document by schemathesis, and their answers held against the same document."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz import IS_SYSTEMATIC, SCHEMA_REQUEST_COUNT
from tests.fuzz.response_checks import CountingApplication

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

# Bodies of other forms are bytes here: what is in them is for the tests of these forms.
schemathesis.openapi.media_type("application/vnd.safetensors", st.binary(max_size=200))

# What a schema cannot say of a request (names that are there, shapes that fit) is refused with 422.
BEYOND_A_SCHEMA = [positive_data_acceptance]

ASKED = CountingApplication()
INTERFACE = schemathesis.openapi.from_wsgi("/openapi.json", ASKED.app)
INTERFACE.config.phases.coverage.enabled = IS_SYSTEMATIC
OPERATIONS = [operation.ok() for operation in INTERFACE.get_all_operations()]


def draw_cases() -> st.SearchStrategy[schemathesis.Case]:
    """Requests that fit the document and such that do not, most of them with a body."""
    with_body = [operation for operation in OPERATIONS if operation.body]
    return st.one_of(
        *(operation.as_strategy(generation_mode=mode) for operation in with_body for mode in GenerationMode),
        st.sampled_from([operation for operation in OPERATIONS if not operation.body]).flatmap(
            lambda operation: operation.as_strategy()
        ),
    )


def test_generated_requests_are_answered_as_described() -> None:
    @settings(max_examples=SCHEMA_REQUEST_COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(draw_cases())
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=BEYOND_A_SCHEMA)

    ASKED.statuses.clear()
    send()
    assert ASKED.statuses.total() >= SCHEMA_REQUEST_COUNT
    assert set(ASKED.statuses) >= {200, 422}


@pytest.mark.long
@INTERFACE.parametrize()
@settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_examples_and_schema_keywords_are_answered_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=BEYOND_A_SCHEMA)


WRONG = {
    "a server error": lambda: ("{}", 500, {"Content-Type": "application/json"}),
    "a status that is not listed": lambda: ("{}", 202, {"Content-Type": "application/json"}),
    "a page": lambda: ("<p>", 200, {"Content-Type": "text/html"}),
    "another shape": lambda: ({"opps": []}, 200),
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
def test_an_answer_that_is_not_described_is_found(answer: Any) -> None:
    app = CountingApplication().app
    app.view_functions["catalogue.get_ops"] = answer
    case = schemathesis.openapi.from_wsgi("/openapi.json", app)["/v1/ops"]["GET"].Case()
    with pytest.raises(BaseExceptionGroup):
        case.call_and_validate(excluded_checks=BEYOND_A_SCHEMA)
