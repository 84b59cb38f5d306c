"""Valid requests with something wrong in them: fields and tensors dropped, replaced, repeated, exchanged."""

import copy
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Json = Any
JsonLocation = tuple[Any, Any]
"""A container, and the key or index of one of its values."""

AWKWARD_VALUES: list[Json] = [
    None, True, "", "NaN", "-Infinity", "loss", "w1", "\0", "é" * 300,
    -1, 0, 1, 0.5, 2**31, 2**63, -(2**64), 5e-324, 1e-200, 1e200, -1.7976931348623157e308, 10**400,
    [], {}, [[]], [[], [1.0]], [None], ["NaN"], [1, [2]], [True, False], {"": ""},
    {"datatype": "FP16", "shape": [2], "data": [1.0, 70000.0]},
    {"datatype": "BF16", "shape": [1, 1], "b64": "AAA="},
    {"datatype": "INT64", "shape": [0, 2**40], "data": []},
    {"datatype": "BOOL", "shape": [3], "data": [True, False, True]},
    {"nodes": []},
]  # fmt: skip

REQUEST_OPTIONS: list[dict[str, Json]] = [
    {},
    {"dtype": "float16"},
    {"dtype": "bfloat16", "include": ["intermediates"]},
    {"encoding": "b64", "include": []},
    {"finite_difference": {"method": "central", "step": 1e-3}},
    {"finite_difference": {"method": "forward", "step": 1e-300}},
    {"finite_difference": {"sample": 2}, "seed": 2**31},
    {"finite_difference": {"projections": 2}},
    {"tolerance": {"rtol": 1e-3}},
    {"candidate_dtype": "TF32"},
]


@st.composite
def mutate_requests_with_options(draw: st.DrawFn, requests: list[Json]) -> Json:
    """A request of these with options, and up to three places of it changed."""
    request = copy.deepcopy(draw(st.sampled_from(requests)) | draw(st.sampled_from(REQUEST_OPTIONS)))
    if draw(st.booleans()):
        # Of the right shapes, and wrong.
        request["candidate"] = copy.deepcopy(request["weights"])
    return _mutate_places(draw, request)


@st.composite
def mutate_requests(draw: st.DrawFn, requests: list[Json]) -> Json:
    """A request of these, and up to three places of it changed."""
    return _mutate_places(draw, copy.deepcopy(draw(st.sampled_from(requests))))


def _mutate_places(draw: st.DrawFn, request: Json) -> Json:
    for _ in range(draw(st.integers(1, 3))):
        change = draw(st.sampled_from(MUTATIONS))
        if place := _draw_location(draw, request):
            change(draw, request, place)
    return request


def _draw_location(draw: st.DrawFn, document: Json) -> JsonLocation | None:
    """Somewhere in a document; outer places are as likely as inner ones, of which there are more."""
    if not isinstance(document, dict | list) or not document:
        return None
    keys = list(document) if isinstance(document, dict) else range(len(document))
    key = draw(st.sampled_from(keys))
    inner = _draw_location(draw, document[key]) if draw(st.integers(0, 2)) else None
    return inner or (document, key)


def _drop(_: st.DrawFn, __: Json, place: JsonLocation) -> None:
    container, key = place
    del container[key]


def _replace(draw: st.DrawFn, _: Json, place: JsonLocation) -> None:
    container, key = place
    container[key] = copy.deepcopy(draw(st.sampled_from(AWKWARD_VALUES)))


def _repeat(draw: st.DrawFn, _: Json, place: JsonLocation) -> None:
    container, key = place
    again = copy.deepcopy(container[key])
    if isinstance(container, list):
        container.insert(key, again)
    else:
        container[draw(st.sampled_from([f"{key}2", "x", "w1", "loss", "", "x/y~z", *container]))] = again


def _exchange(draw: st.DrawFn, request: Json, place: JsonLocation) -> None:
    """Put there what stands elsewhere."""
    container, key = place
    if other := _draw_location(draw, request):
        source, name = other
        container[key] = copy.deepcopy(source[name])


def _deepen(draw: st.DrawFn, _: Json, place: JsonLocation) -> None:
    container, key = place
    for _ in range(draw(st.sampled_from([1, 2, 40, 70]))):
        container[key] = [container[key]]


def _scale(draw: st.DrawFn, _: Json, place: JsonLocation) -> None:
    """All numbers there become extreme, and keep their signs."""
    container, key = place
    factor = draw(st.sampled_from([0.0, -1.0, 1e-320, 1e-160, 1e8, 1e160, 1e307]))
    container[key] = _scale_numbers(container[key], factor)


def _scale_numbers(document: Json, factor: float) -> Json:
    if isinstance(document, list):
        return [_scale_numbers(item, factor) for item in document]
    if isinstance(document, dict):
        return {name: _scale_numbers(item, factor) for name, item in document.items()}
    return _clip_to_finite(document * factor) if type(document) in (int, float) and abs(document) < 1e300 else document


def _clip_to_finite(number: float) -> float:
    return max(-1.7e308, min(1.7e308, number))


MUTATIONS: list[Callable[[st.DrawFn, Json, JsonLocation], None]] = [
    _drop,
    _replace,
    _repeat,
    _exchange,
    _deepen,
    _scale,
]
