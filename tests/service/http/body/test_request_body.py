import pytest

from service.app import create_app
from service.settings import Settings

CLIENT = create_app(Settings(max_body_bytes=1000, max_binary_bytes=2000)).test_client()


def post_check(data, content_type="application/json", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.post("/v1/check", data=data, content_type=content_type, headers=headers)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 422),
        ("application/json; charset=utf-8", 422),
        ("Application/JSON", 422),
        ("text/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
    ],
)
def test_other_content_types_are_refused(content_type, status):
    response = post_check(b"{}", content_type)
    assert response.status_code == status
    if status == 415:
        assert "application/json" in response.json["detail"]


@pytest.mark.parametrize(("encoding", "status"), [("identity", 422), ("", 422), ("gzip", 415), ("br", 415)])
def test_unknown_content_encoding_is_refused(encoding, status):
    assert post_check(b"{}", Content_Encoding=encoding).status_code == status


NOT_JSON = {
    "nothing": (b"", "The body is empty"),
    "blanks": (b" \n", "The body is empty"),
    "half": (b'{"tensors": ', "at line 1 column"),
    "another line": (b'{\n"tensors": x}', "at line 2 column"),
    "NaN": (b'{"tensors": {"x": [1, NaN]}}', 'spelled as the string "NaN"'),
    "infinite": (b'{"tensors": {"x": Infinity}}', 'spelled as the string "Infinity"'),
    "minus infinite": (b'{"tensors": {"x": -Infinity}}', 'spelled as the string "-Infinity"'),
    "minus NaN": (
        b'{"tensors": {"x": [1, -NaN]}}',
        'JSON has no -NaN; in a candidate it is spelled as the string "NaN"',
    ),
    "plus infinite": (b'{"tensors": {"x": +Infinity}}', 'spelled as the string "Infinity"'),
    "as NumPy prints it": (b'{"tensors": {"x": [ nan, 1]}}', 'spelled as the string "NaN"'),
    "as NumPy prints it, infinite": (b'{"tensors": {"x": [inf]}}', 'spelled as the string "Infinity"'),
    "as NumPy prints it, minus infinite": (b'{"tensors": {"x": [-inf]}}', 'spelled as the string "-Infinity"'),
    "behind letters of two bytes": ('{"ééééééééééééééééé": NaN}'.encode(), 'the string "NaN"'),
    "too large a number, and half": (b'{"tensors": 1e999', "The body is not JSON"),
    "too large a number beside NaN": (b'{"tensors": [1e999, NaN]}', 'the string "NaN"'),
    "too large a number, deep": (b"[1e999," + b"[" * 60, "The body is not JSON"),
    "not UTF-8": (b'{"\xff": 1}', "The body is not JSON"),
    "UTF-16": ("{}".encode("utf-16"), "The body is not JSON"),
    "UTF-16 without a mark": ("{}".encode("utf-16-le"), "The body is not JSON"),
    "UTF-32": ("{}".encode("utf-32"), "The body is not JSON"),
    "two marks": (b"\xef\xbb\xbf" * 2 + b"{}", "The body is not JSON"),
    "a mark alone": (b"\xef\xbb\xbf", "The body is empty"),
    "deep": (b"[" * 64, "The body is not JSON"),
    "deeper": (b"[" * 65, "The body is nested deeper than the 64 levels"),
}


@pytest.mark.parametrize(("body", "words"), NOT_JSON.values(), ids=NOT_JSON)
def test_malformed_json_is_refused(body, words):
    response = post_check(body)
    assert (response.status_code, response.mimetype) == (400, "application/problem+json")
    assert words in response.json["detail"]


@pytest.mark.parametrize("body", [b"{}", b'{"tensors": 1e999}'])
def test_a_byte_order_mark_is_ignored(body):
    assert post_check(b"\xef\xbb\xbf" + body).json == post_check(body).json
    assert post_check(body).status_code == 422


@pytest.mark.parametrize("body", [b'{"x": ["NaN"], "y": }', b'["NaN",]', b'{"note": "-Infinity"', b"[infer]"])
def test_spelling_of_numbers_is_explained_only_beside_its_own_error(body):
    detail = post_check(body).json["detail"]
    assert detail.startswith("The body is not JSON: ")
    assert "spelled" not in detail


def test_deep_json_is_refused():
    for body in (b"[" * 10_000, b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000):
        response = create_app().test_client().post("/v1/check", data=body, content_type="application/json")
        assert (response.status_code, response.mimetype) == (400, "application/problem+json")
        assert "deeper than the 64 levels" in response.json["detail"]


def test_deepest_accepted_nesting_is_parsed():
    client = create_app(Settings(max_depth=3)).test_client()
    for body, status in ((b'{"x": {"y": [1]}}', 422), (b'{"x": {"y": [[1]]}}', 400)):
        assert client.post("/v1/check", data=body, content_type="application/json").status_code == status
