"""Names of a megabyte: no answer sends them back whole."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.app import create_app

CLIENT = create_app().test_client()
LONG = "n" * 1_000_000
MOST_BYTES = 20_000

Change = Callable[[Any], Any]


def _iterate_paths(body: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Paths to everything in a body; of a list the first two items stand for all."""
    yield path
    inside = body.items() if isinstance(body, dict) else enumerate(body[:2]) if isinstance(body, list) else ()
    for key, value in inside:
        yield from _iterate_paths(value, (*path, key))


def _change_value(body: Any, path: tuple[str | int, ...], change: Change) -> Any:
    """A copy of a body in which the value at a path is changed."""
    if not path:
        return change(json.loads(json.dumps(body)))
    if isinstance(body, list):
        return [_change_value(item, path[1:], change) if at == path[0] else item for at, item in enumerate(body)]
    return {key: _change_value(item, path[1:], change) if key == path[0] else item for key, item in body.items()}


def _add_long_key(value: Any) -> Any:
    return {**value, LONG: 1} if isinstance(value, dict) else LONG


def _rename_first_key(value: Any) -> Any:
    return {LONG if at == 0 else key: item for at, (key, item) in enumerate(value.items())} if value else {LONG: 1}


CHANGES: dict[str, Change] = {
    "a value": lambda _: LONG,
    "an item": lambda _: [LONG],
    "another key": _add_long_key,
    "a renamed key": lambda value: _rename_first_key(value) if isinstance(value, dict) else {LONG: value},
}


def make_bodies(example: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A valid body of each route, with most of its fields."""
    resolved = CLIENT.post("/v1/check", json=example).get_json()["model"]
    check = example | {"model": resolved, "candidate": {"w2": [1, 2, 3, 4]}, "dtype": "float64", "seed": 0}
    plan = {"point": {"w": [1.0, 2.0]}, "directions": {"kind": "coordinates"}, "scale": {"w": 1.0}}
    planned = CLIENT.post("/v1/plan", json=plan).get_json()
    return {
        "check": check,
        "curve": example | {"element": {"name": "w1", "index": [0, 0]}},
        "bugs": check | {"bug": "scaled"},
        "plan": plan,
        "judge": {"plan": planned["plan"], "losses": [1.0] * planned["evaluations"], "candidate": {"w": [1.0, 2.0]}},
    }


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("route", ["check", "curve", "bugs", "plan", "judge"])
def test_no_long_name_is_sent_back_whole(example: dict[str, Any], route: str, change: Change) -> None:
    body = make_bodies(example)[route]
    refused = 0
    for path in _iterate_paths(body):
        answer = CLIENT.post(f"/v1/{route}", json=_change_value(body, path, change))
        assert answer.status_code < 500, path
        assert LONG[:2000] not in answer.get_data(as_text=True), path
        if answer.status_code >= 400:
            assert len(answer.data) < MOST_BYTES, path
            refused += 1
    assert refused > 5


def test_long_name_is_shortened_to_its_ends(example: dict[str, Any]) -> None:
    weights = example["weights"] | {"w" * 500_000 + "z": [1.0]}
    (error,) = CLIENT.post("/v1/check", json=example | {"weights": weights}).get_json()["errors"]
    assert error["pointer"] == "/weights"
    assert error["detail"].startswith(f"'{'w' * 37}...{'w' * 37}z': ")
