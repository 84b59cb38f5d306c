"""Products of a Jacobian against the outputs and tensors of a plan."""

import copy

import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.common.limits import Limits
from tests.service.checks.blackbox.output_requests import make_output_request

BODIES = {
    "vjp": make_output_request("coordinates", "vjp"),
    "jvp": make_output_request("coordinates", "jvp"),
    "jacobian": make_output_request("coordinates", "jacobian"),
}


def find_errors(body, limits=None):
    with pytest.raises(InvalidRequestError) as error:
        judge_losses(body, limits)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def change(field, *path, to):
    body = copy.deepcopy(BODIES[field])
    here = body[field]
    for part in path[:-1]:
        here = here[part]
    if to is None:
        del here[path[-1]]
    else:
        here[path[-1]] = to
    return body


INTEGERS = {"datatype": "INT64", "shape": [3], "data": [1, 2, 3]}
WRONG = {
    "a tensor missing": (change("vjp", "y", "w", to=None), "/vjp/y/w", "is missing: the plan moves this tensor too"),
    "a tensor of the Jacobian missing": (change("jacobian", "y", "b", to=None), "/jacobian/y/b", "is missing"),
    "an unknown tensor": (change("vjp", "y", "c", to=1.0), "/vjp/y/c", "no tensor 'c' in the plan"),
    "an unknown output": (change("vjp", "z", to={"w": 1.0}), "/vjp/z", "no output 'z' in the plan; there are: 'y'"),
    "an unknown output of jvp": (change("jvp", "z", to=1.0), "/jvp/z", "no output 'z'"),
    "another shape of vjp": (change("vjp", "y", "b", to=[1.0]), "/vjp/y/b", "its shape is [1]; the point has [3]"),
    "another shape of jacobian": (
        change("jacobian", "y", "b", to=[[1.0] * 3] * 6), "/jacobian/y/b", "output and tensor together have [2, 3, 3]",
    ),
    "too few directions": (
        change("jvp", "total", to=[1.0] * 6), "/jvp/total",
        "its shape is [6]; the plan has 7 directions, and so it must have [7]",
    ),
    "integers": (change("vjp", "y", "b", to=INTEGERS), "/vjp/y/b", "datatype INT64"),
    "no tensor": (change("vjp", "y", to={}), "/vjp/y", "at least 1"),
    "null": (change("vjp", "y", "b", to={"x": 1}), "/vjp/y/b", "unknown field 'x'"),
    "a name with a slash": (change("vjp", "y/b", to={"w": 1.0}), "/vjp/y~1b", "has a slash"),
    "both vjp and jacobian": (BODIES["vjp"] | {"jacobian": BODIES["jacobian"]["jacobian"]}, "/vjp", "give one of them"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "place", "words"), WRONG.values(), ids=WRONG)
def test_wrong_products_are_refused_at_their_place(body, place, words):
    assert words in find_errors(body)[place]


def test_a_jacobian_takes_directions_of_elements():
    body = make_output_request("random", "jacobian")
    assert find_errors(body) == {
        "/jacobian": 'needs a plan with directions of kind "coordinates"; this one has random directions'
    }


def test_the_number_of_pairs_is_limited():
    assert find_errors(BODIES["vjp"], Limits(names=3)) == {
        "/vjp": "4 pairs of an output and a tensor are more than the 3 that are taken"
    }
