import pytest

from tests.fuzz.response_checks import CountingApplication


@pytest.fixture(scope="module")
def counting_application() -> CountingApplication:
    return CountingApplication()
