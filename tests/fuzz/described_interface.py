"""The interface of an application as schemathesis reads it from our own OpenAPI document."""

import schemathesis
from hypothesis import strategies as st
from schemathesis import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.fuzz import IS_SYSTEMATIC
from tests.fuzz.response_checks import CountingApplication

# Bodies of other forms are bytes here: what is in them is for the tests of these forms.
schemathesis.openapi.media_type("application/vnd.safetensors", st.binary(max_size=200))
schemathesis.openapi.media_type("application/onnx", st.binary(max_size=200))

# What a schema cannot say of a request (names that are there, shapes that fit) is refused with 422.
BEYOND_A_SCHEMA = [positive_data_acceptance]


def load_interface(application: CountingApplication) -> BaseSchema:
    """Load the interface that an application describes."""
    interface = schemathesis.openapi.from_wsgi("/openapi.json", application.app)
    interface.config.phases.coverage.enabled = IS_SYSTEMATIC
    return interface
