import pytest

from tests.fuzz.held import Asked


@pytest.fixture(scope="module")
def asked() -> Asked:
    return Asked()
