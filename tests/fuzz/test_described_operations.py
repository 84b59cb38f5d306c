"""Requests made from our own OpenAPI document by schemathesis, and their answers held against the same document."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import BaseSchema, GenerationMode

from tests.fuzz import SCHEMA_REQUEST_COUNT
from tests.fuzz.described_interface import BEYOND_A_SCHEMA, load_interface
from tests.fuzz.response_checks import CountingApplication

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover


@pytest.fixture(scope="module")
def interface(counting_application: CountingApplication) -> BaseSchema:
    """The interface of an application, made for tests that run: each process collects this file."""
    return load_interface(counting_application)


def draw_cases(interface: BaseSchema) -> st.SearchStrategy[schemathesis.Case]:
    """Requests that fit the document and such that do not, most of them with a body."""
    operations = [operation.ok() for operation in interface.get_all_operations()]
    with_body = [operation for operation in operations if operation.body]
    return st.one_of(
        *(operation.as_strategy(generation_mode=mode) for operation in with_body for mode in GenerationMode),
        st.sampled_from([operation for operation in operations if not operation.body]).flatmap(
            lambda operation: operation.as_strategy()
        ),
    )


def test_generated_requests_are_answered_as_described(
    interface: BaseSchema, counting_application: CountingApplication
) -> None:
    @settings(max_examples=SCHEMA_REQUEST_COUNT, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(draw_cases(interface))
    def send(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=BEYOND_A_SCHEMA)

    statuses = counting_application.statuses
    statuses.clear()
    send()
    assert statuses.total() >= SCHEMA_REQUEST_COUNT
    assert set(statuses) >= {200, 422}


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
