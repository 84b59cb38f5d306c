"""What is small enough for the lane: by bytes, by operations, and by what it takes to tell."""

import tracemalloc

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import MAX_SMALL_BYTES, MAX_SMALL_WORK, Limits
from service.checks.graph import model_language, small_checks
from service.checks.graph.check import check
from service.checks.graph.small_checks import is_small_check
from service.numerics.gradients import finite_difference
from service.settings import Settings
from tests.service.checks.graph.sized_requests import estimate_request, make_entangled_request

LIMITS = Limits()
VAST = 3 * 10**7


def make_chain_request(length):
    nodes = [{"name": f"n{at}", "op": "tanh", "inputs": [f"n{at - 1}" if at else "w"]} for at in range(length)]
    nodes.append({"name": "loss", "op": "sum", "inputs": [nodes[-1]["name"]]})
    return {"tensors": {}, "weights": {"w": [0.5] * 4}, "model": {"nodes": nodes}, "include": []}


def make_wide_request(size, **fields):
    nodes = [{"name": "wide", "op": "expand", "inputs": ["w"], "size": [size]}]
    nodes.append({"name": "loss", "op": "sum", "inputs": ["wide"]})
    return {"tensors": {}, "weights": {"w": [1.0]}, "model": {"nodes": nodes}, "include": [], **fields}


def make_pool_request(side, kernel):
    """Planned at a price that grows with the offsets of the kernel, whatever the model holds."""
    nodes = [
        {"name": "wide", "op": "expand", "inputs": ["w"], "size": [1, 1, side, side]},
        {"name": "p", "op": "max_pool2d", "inputs": ["wide"], "kernel_size": kernel, "stride": 1},
        {"name": "loss", "op": "sum", "inputs": ["p"]},
    ]
    return {"tensors": {}, "weights": {"w": [1.0]}, "model": {"nodes": nodes}, "include": []}


@pytest.mark.parametrize("preset", model_language.list_models()["models"], ids=lambda preset: preset["name"])
def test_presets_are_small(preset):
    assert is_small_check(preset["request"], LIMITS)


LARGE = {
    "elements": make_wide_request(2**19),
    "elements and a sample of them": make_wide_request(
        2**19, with_respect_to=["wide"], finite_difference={"sample": 2**18}
    ),
    "nodes": make_chain_request(900),
    "scalars that are all entangled": make_entangled_request(40, 40),
    "the offsets of a kernel": make_pool_request(200, 100),
    "the answer": {"include": ["gradients"], "encoding": "nested"} | make_wide_request(2**17, with_respect_to=["wide"]),
    "elements without number": make_wide_request(VAST, with_respect_to=["wide"], finite_difference={"sample": VAST}),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_request_that_is_large_in_any_respect_is_not_small(body):
    assert not is_small_check(body, LIMITS)


@pytest.mark.parametrize("body", [*LARGE.values(), make_entangled_request(6, 6)], ids=[*LARGE, "a small one"])
def test_to_tell_takes_no_more_than_a_small_check_takes(body):
    is_small_check(body, LIMITS)
    tracemalloc.start()
    try:
        is_small_check(body, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < MAX_SMALL_BYTES
    finally:
        tracemalloc.stop()


def test_a_plan_that_is_large_by_itself_is_not_made_to_tell(monkeypatch):
    planned = []
    monkeypatch.setattr(finite_difference, "plan_differences", lambda *_, **__: planned.append(1))
    assert not is_small_check(make_pool_request(200, 100), LIMITS)
    assert not planned
    with pytest.raises(AttributeError):
        is_small_check(make_entangled_request(6, 6), LIMITS)
    assert planned, "which would have been noticed"


@pytest.mark.parametrize("what", ["bytes", "work"])
def test_estimate_decides_whether_a_check_is_small(monkeypatch, what):
    body = make_entangled_request(6, 6)
    most = getattr(estimate_request(body), what)
    for limit, is_small in ((most, True), (most - 1, False)):
        monkeypatch.setattr(small_checks, f"MAX_SMALL_{what.upper()}", limit)
        assert is_small_check(body, LIMITS) is is_small


@pytest.mark.parametrize("field", ["bytes", "work", "elements"])
def test_request_over_a_limit_is_not_small(field):
    assert not is_small_check(make_entangled_request(6, 6), Limits(**{field: 10}))


@pytest.mark.parametrize(
    "body", [{}, [], {"tensors": {}, "weights": {"w": ["a"]}}, make_chain_request(3) | {"with_respect_to": ["none"]}]
)
def test_invalid_request_is_small(body):
    assert is_small_check(body, LIMITS)
    with pytest.raises(InvalidRequestError):
        check(body)


def test_unexamined_request_is_not_small():
    assert not is_small_check(None, LIMITS)


def test_oversized_model_draws_no_sample():
    """Drawing takes memory for each element, of which a node may have any number."""
    body = make_wide_request(VAST, with_respect_to=["wide"], finite_difference={"sample": VAST})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match=r"the model would hold 30000001 elements or more"):
            check(body)
        assert tracemalloc.get_traced_memory()[1] < VAST
    finally:
        tracemalloc.stop()


def test_small_check_limit_is_a_setting():
    said = Settings.model_fields["max_small_checks"].description or ""
    assert f"{MAX_SMALL_BYTES // 2**20} MiB and {MAX_SMALL_WORK:.0e} operations" in said
