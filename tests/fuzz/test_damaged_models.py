"""ONNX files with bytes replaced: each gets an answer that is described, and none is an error of the service."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from tests.fuzz import RAW_REQUEST_COUNT
from tests.fuzz.response_checks import CountingApplication
from tests.service.checks.importing.onnx_files import FLOAT, INT64, make_classifier, make_file, node

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

_MOST_FILES = 300
"""Files of one run: each takes some 10 ms, of which a long run of the other fuzz tests has too many."""
IMAGE = {"x": (FLOAT, [1, 2, 6, 6])}
BODY = helper.make_graph(
    [node("Identity", "go", "on"), node("Exp", "s", "t")],
    "body",
    [helper.make_tensor_value_info(name, FLOAT, None) for name in ("i", "go", "s")],
    [helper.make_tensor_value_info(name, FLOAT, None) for name in ("on", "t")],
)
FILES = [
    make_classifier(),
    make_file(
        [
            node("Conv", "x w", "c", pads=[1, 0, 1, 0], strides=[1, 2]),
            node("AveragePool", "c", "p", kernel_shape=[2, 2], ceil_mode=1),
            node("Resize", "p - scales", "r", mode="linear"),
            node("Slice", "r starts ends", "y"),
        ],
        IMAGE,
        initialisers={
            "w": np.ones((3, 2, 3, 3), np.float32),
            "scales": np.array([1, 1, 2, 1.5], np.float32),
            "starts": np.array([0, 1]),
            "ends": np.array([1, 3]),
        },
    ),
    make_file(
        [node("LSTM", "x w r b", "a h", hidden_size=2), helper.make_node("Loop", ["n", "", "h"], ["y"], body=BODY)],
        {"x": (FLOAT, [3, 2, 4]), "n": (INT64, [])},
        initialisers={
            "w": np.ones((1, 8, 4), np.float32),
            "r": np.ones((1, 8, 2), np.float32),
            "b": np.ones((1, 16), np.float32),
            "n": np.array(2),
        },
    ),
]


@st.composite
def draw_damaged_file(draw: st.DrawFn) -> bytes:
    """A file with one to four of its bytes replaced, and perhaps cut off."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for position in draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
        content[position] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


def test_a_damaged_file_is_no_error_of_the_service(counting_application: CountingApplication) -> None:
    client = counting_application.app.test_client()
    statuses = set[int]()

    @settings(
        max_examples=min(RAW_REQUEST_COUNT // 3, _MOST_FILES),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(draw_damaged_file())
    def send(content: bytes) -> None:
        answer = client.post("/v1/import", data=content, content_type="application/onnx")
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 422), answer.text

    send()
    assert statuses == {200, 422}
