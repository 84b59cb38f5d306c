"""A real service to ask, and the reference example as arrays."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gradcheckd import Service
from gradcheckd.connection import KEY_VARIABLE, URL_VARIABLE
from tests.integration.conftest import Server, server, start_server

__all__ = ["server", "start_server"]

W1 = np.array([[-0.1342557202950444, -0.18325792430503762], [-0.2812623323250241, -0.3302645363350174]])


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set where the tests run says nothing to them."""
    for name in (URL_VARIABLE, KEY_VARIABLE):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def url(server: Server) -> str:
    return server.url


@pytest.fixture
def service(url: str) -> Iterator[Service]:
    with Service(url) as service:
        yield service


@pytest.fixture
def reference_arrays() -> dict[str, Any]:
    """The reference example."""
    return {
        "tensors": {"x": np.arange(1.0, 10.0).reshape(3, 3), "y": np.array([-1.0, -1.0, 1.0, 1.0])},
        "weights": {"w1": np.array([[0.1, -0.1], [0.2, 0.001]]), "w2": np.array([0.0005, -0.2, 0.2, 0.5])},
    }


@pytest.fixture
def wrong_arrays(reference_arrays: dict[str, Any]) -> dict[str, Any]:
    """It, with a gradient that is transposed."""
    return reference_arrays | {"candidate": {"w1": W1.T}}
