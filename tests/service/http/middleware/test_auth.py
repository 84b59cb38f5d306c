import pytest

from service.app import create_app
from service.http.middleware.auth import load_keys
from service.http.operations import get_operation
from service.settings import Settings

KEYS = ("first-key_1.~+/==", "second")
OPEN = ["/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"]


def make_client(**settings):
    return create_app(Settings(**{"keys": ",".join(KEYS)} | settings)).test_client()


def make_headers(value):
    return {"Authorization": value}


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_no_key(path):
    assert make_client().get(path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", path) for path in ("/v1/ops", "/v1/models", "/openapi.json", "/metrics", "/nowhere", "/v1/check")),
        *(("POST", path) for path in ("/v1/check", "/v1/curve", "/v1/bugs", "/health/live")),
        *(("OPTIONS", path) for path in ("/v1/check", "/v1/ops")),
    ],
)
def test_other_operations_require_a_key(method, path):
    response = make_client().open(path, method=method)
    assert (response.status_code, response.mimetype) == (401, "application/problem+json")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="gradcheckd"'
    assert "Authorization: Bearer KEY" in response.json["detail"]
    assert make_client().open(path, method=method, headers=make_headers("Bearer second")).status_code != 401


def test_routes_need_a_key_unless_marked_open():
    app = create_app(Settings(keys="a"))
    opened = {
        rule.rule for rule in app.url_map.iter_rules() if get_operation(app.view_functions[rule.endpoint]).is_open
    }
    # The pages hold nothing that is secret; what they ask for needs the key.
    assert opened == {*OPEN, "/", "/docs", "/page/<path:name>"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_each_key_opens(example, key, scheme):
    assert make_client().post("/v1/check", json=example, headers=make_headers(f"{scheme} {key}")).status_code == 200


@pytest.mark.parametrize(
    "wrong",
    ["Bearer third", "Bearer secon", "Bearer second1", "Bearer SECOND", "Bearer first-key_1.~+/==,second", "Bearer é"],
)
def test_wrong_key_is_refused_and_not_shown(wrong):
    response = make_client().get("/v1/ops", headers=make_headers(wrong))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["WWW-Authenticate"]
    assert wrong.removeprefix("Bearer ") not in response.text
    assert not any(key in response.text for key in KEYS)


@pytest.mark.parametrize("value", ["", "second", "Basic second", "Bearer", "Bearer "])
def test_request_without_a_key_is_unauthorised_without_an_error_code(value):
    response = make_client().get("/v1/ops", headers=make_headers(value))
    assert response.status_code == 401
    assert "error=" not in response.headers["WWW-Authenticate"]


def test_without_keys_all_is_open(example):
    assert create_app(Settings()).test_client().post("/v1/check", json=example).status_code == 200


def test_a_file_has_further_keys(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# of the tests\nthird # since May\n\n  fourth\n")
    assert load_keys(Settings(keys="first, second,", keys_file=str(file))) == ["first", "second", "third", "fourth"]
    assert (
        make_client(keys="", keys_file=str(file)).get("/v1/ops", headers=make_headers("Bearer fourth")).status_code
        == 200
    )
    assert make_client(keys="", keys_file=str(file)).get("/v1/ops", headers=make_headers("Bearer #")).status_code == 401


@pytest.mark.parametrize("text", ["", "\n", "# none\n"])
def test_a_file_without_keys_does_not_open_the_service(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match="holds no key"):
        create_app(Settings(keys_file=str(file)))
    with pytest.raises(FileNotFoundError):
        create_app(Settings(keys_file=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("key", ["two words", "ünï", "a=b", '"quoted"'])
def test_a_key_that_no_request_can_bear_is_refused_at_the_start_without_showing_it(key):
    with pytest.raises(ValueError, match=r"Key 2 of GRADCHECKD_KEYS .*RFC 6750") as refused:
        create_app(Settings(keys=f"good,{key}"))
    assert key not in str(refused.value)
    assert key not in repr(Settings(keys=key))
