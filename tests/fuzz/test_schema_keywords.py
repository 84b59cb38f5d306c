"""Every example and, in `make fuzz`, every keyword of our own OpenAPI document, sent by schemathesis.

It makes the document and the requests when the file is collected, so that `make test` does not collect it.
"""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from tests.fuzz.described_interface import BEYOND_A_SCHEMA, load_interface
from tests.fuzz.response_checks import CountingApplication

pytestmark = pytest.mark.no_cover

INTERFACE = load_interface(CountingApplication())


@pytest.mark.long
@INTERFACE.parametrize()
@settings(max_examples=5, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_examples_and_schema_keywords_are_answered_as_described(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=BEYOND_A_SCHEMA)
