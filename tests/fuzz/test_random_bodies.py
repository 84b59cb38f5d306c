"""Raw bytes: bodies that are no JSON or nearly JSON, headers and addresses that mean nothing."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.app import create_app
from tests.fuzz import RAW_REQUEST_COUNT
from tests.fuzz.response_checks import CountingApplication, check_response

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

EXAMPLE = (Path(__file__).parents[2] / "examples" / "reference.json").read_bytes()

HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
FORMS = st.sampled_from(
    ["application/json", "application/json; charset=latin-1", "application/vnd.safetensors", "text/html", "*/*", ""]
)
PATHS = st.sampled_from([rule.rule for rule in create_app().url_map.iter_rules()])
METHODS = st.sampled_from(["POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])


@st.composite
def draw_damaged_body(draw: st.DrawFn) -> bytes:
    """The reference example with a piece of it replaced by other bytes, or repeated."""
    first, last = sorted(draw(st.tuples(*[st.integers(0, len(EXAMPLE))] * 2)))
    piece = EXAMPLE[first:last] * draw(st.integers(0, 3))
    return EXAMPLE[:first] + draw(st.binary(max_size=8) | st.just(piece)) + EXAMPLE[last:]


NESTED = st.builds(
    lambda depth, opened: opened * depth, st.integers(1, 20_000), st.sampled_from([b"[", b'{"x":', b"[[1],", b'{"a":['])
)
TOKENS = st.lists(
    st.sampled_from(["{", "}", "[", "]", ",", ":", '"tensors"', '"model"', "1e999", "-0", "NaN", '"\\ud800"', "\x00"])
)
BODIES = st.binary(max_size=200) | draw_damaged_body() | NESTED | TOKENS.map(lambda tokens: "".join(tokens).encode())


@st.composite
def draw_headers(draw: st.DrawFn) -> dict[str, str]:
    """Mostly what is served, so that the body is looked at too."""
    usual = {"Content-Type": "application/json"}
    names = st.sampled_from(["Content-Type", "Accept", "Content-Encoding", "Content-Length", "X-Request-Id", "Host"])
    return usual | draw(st.just({}) | st.dictionaries(names, FORMS | HEADER, max_size=3))


def send_request(asked: CountingApplication, method: str, path: str, sent: dict[str, str], body: bytes) -> None:
    # Not as an URL, which the client would take apart, and refuse some.
    address = {"PATH_INFO": path}
    response = asked.app.test_client().open(method=method, headers=sent, data=body, environ_overrides=address)
    check_response(asked.document, response)


def test_any_bytes_in_a_body_are_answered_as_described(counting_application: CountingApplication) -> None:
    @settings(
        max_examples=RAW_REQUEST_COUNT // 2, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(["/v1/check", "/v1/curve", "/v1/bugs"]), draw_headers(), BODIES)
    def send_body(path: str, sent: dict[str, str], body: bytes) -> None:
        send_request(counting_application, "POST", path, sent, body)

    @settings(
        max_examples=RAW_REQUEST_COUNT - RAW_REQUEST_COUNT // 2,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(METHODS, PATHS | HEADER.map(lambda text: f"/{text}"), draw_headers(), st.binary(max_size=20))
    def send_to_address(method: str, path: str, sent: dict[str, str], body: bytes) -> None:
        send_request(counting_application, method, path, sent, body)

    send_body()
    send_to_address()
    assert counting_application.statuses.total() >= RAW_REQUEST_COUNT
    assert set(counting_application.statuses) >= {400, 404, 405, 406, 415, 422}
