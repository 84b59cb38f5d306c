"""Outputs, cotangents and tangents of a plan."""

import json

import numpy as np
import pytest

from schemas.datatype import DATATYPES
from schemas.plan import Plan
from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.plan import plan_evaluations
from service.checks.blackbox.plan_codec import decode_plan
from service.checks.common.limits import Limits
from service.numerics.blackbox.random_numbers import draw_cotangents
from tests.service.checks.blackbox.plan_requests import make_plan_request

SHAPES = {"y": [2, 3], "norm": []}


def find_errors(body, limits=None, binary=False):
    with pytest.raises(InvalidRequestError) as error:
        plan_evaluations(body, limits, binary=binary)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_plan_of_a_loss_has_no_outputs():
    result = plan_evaluations(make_plan_request())
    assert not {"outputs", "output_order", "cotangents"} & result.plan.keys()
    assert set(result.answer) == {"plan", "evaluations", "order", "points"}
    assert set(result.binary_tensors) == {"points/w1", "points/b"}


def test_outputs_change_no_point():
    with_outputs = plan_evaluations(make_plan_request(outputs=SHAPES))
    for name, tensor in plan_evaluations(make_plan_request()).points.items():
        assert (with_outputs.points[name].array == tensor.array).all()


def test_random_cotangents_have_the_shapes_of_the_outputs():
    answer = plan_evaluations(make_plan_request(outputs=SHAPES)).answer
    assert {name: list(np.shape(cotangent)) for name, cotangent in answer["cotangents"].items()} == SHAPES
    other_seed = plan_evaluations(make_plan_request(outputs=SHAPES, seed=4)).answer
    assert answer["cotangents"]["norm"] != other_seed["cotangents"]["norm"]


def test_the_cotangent_of_an_output_depends_on_no_other_output():
    alone = plan_evaluations(make_plan_request(outputs={"norm": []})).cotangents["norm"]
    beside = plan_evaluations(make_plan_request(outputs=SHAPES)).cotangents["norm"]
    assert (alone.array == beside.array).all()


@pytest.mark.parametrize("datatype", ["BF16", "FP16", "FP32"])
def test_narrow_datatypes_hold_random_cotangents_exactly(datatype):
    drawn = draw_cotangents(0, "y", 100_000)
    stored = DATATYPES[datatype].to_storage(drawn)
    assert (DATATYPES[datatype].from_storage(stored.tobytes()) == drawn).all()
    assert (drawn != 0).all()


def test_random_cotangents_have_the_law_of_directions():
    drawn = draw_cotangents(0, "y", 100_000)
    assert abs(drawn.mean()) < 0.02
    assert abs(drawn.std() - 1) < 0.01
    assert abs((drawn > 1).mean() - 1 / 6) < 0.005


@pytest.mark.parametrize("kind", ["random", "coordinates"])
def test_each_tangent_moves_the_tensor_of_its_direction(kind):
    result = plan_evaluations(make_plan_request(kind, outputs=SHAPES))
    tangents, layout = result.answer["tangents"], decode(result).layout
    names = [name for name in layout.points for _ in range(len(layout.lines[name]))]
    assert [list(row) for row in tangents] == [[name] for name in names]
    position = 0
    for name, lines in layout.lines.items():
        points = result.points[name].array
        for direction in range(len(lines)):
            first = layout.get_first_evaluation(name) + direction * 2 * len(layout.points[name].schedule.steps)
            move = points[first] - points[first + 1]
            tangent = np.array(tangents[position][name])
            step = 2 * layout.list_step_offsets(name)[direction, 0, 0] * lines.derivative_units[direction]
            assert np.allclose(move, step * tangent, rtol=1e-6 if name == "b" else 1e-14, atol=0)
            position += 1


def decode(result, **changes):
    wire = json.loads(json.dumps(dict(result.plan)))
    return decode_plan(Plan.model_validate(wire | changes), Limits(), 1)


def test_a_plan_keeps_outputs_and_cotangents():
    own = {"y": [0.1, 0.2], "z": {"datatype": "FP32", "shape": [], "data": 3.0}}
    for fields in ({"outputs": SHAPES}, {"cotangents": own}):
        result = plan_evaluations(make_plan_request(**fields))
        assert result.plan["checks"].keys() >= {"outputs"}
        again = decode(result)
        assert list(again.cotangents) == list(result.cotangents)
        for name, array in again.cotangents.items():
            assert (array == result.cotangents[name].array).all()


def test_random_cotangents_take_two_bytes_an_element_in_the_plan():
    assert plan_evaluations(make_plan_request(outputs=SHAPES)).plan["cotangents"]["y"]["datatype"] == "BF16"
    own = plan_evaluations(make_plan_request(cotangents={"y": [0.1]})).plan["cotangents"]["y"]
    assert own["datatype"] == "FP64"


def test_the_answer_has_the_cotangents_of_the_request():
    answer = plan_evaluations(make_plan_request(cotangents={"y": [[0.1, 1e300]], "z": -2})).answer
    assert answer["cotangents"]["y"].tolist() == [[0.1, 1e300]]
    assert answer["cotangents"]["z"] == -2


def test_binary_answer_stacks_tangents():
    result = plan_evaluations(make_plan_request("coordinates", outputs=SHAPES), binary=True)
    tensors = result.binary_tensors
    assert list(tensors) == ["points/w1", "points/b", "cotangents/y", "cotangents/norm", "tangents/w1", "tangents/b"]
    assert (tensors["tangents/w1"].array.reshape(4, 4) == np.eye(4)).all()
    assert tensors["tangents/b"].datatype == tensors["cotangents/y"].datatype == DATATYPES["FP64"]


def test_reserved_bytes_cover_the_answer_with_outputs():
    for encoding in ("nested", "b64"):
        sizes: list[int] = []
        body = make_plan_request("coordinates", outputs={"y": [50, 3], "a": []}, encoding=encoding)
        result = plan_evaluations(body, reserve_answer_bytes=sizes.append)
        text = json.dumps(result.answer, default=lambda array: array.tolist())
        assert len(text) < sizes[0] < 4 * len(text) + 20_000


TOO_LARGE = 2**40
WRONG = {
    "both": ({"outputs": {"y": []}, "cotangents": {"y": 1.0}}, "/cotangents", "beside `outputs`"),
    "no output": ({"outputs": {}}, "/outputs", "at least 1"),
    "no cotangent": ({"cotangents": {}}, "/cotangents", "at least 1"),
    "not an object": ({"outputs": [2]}, "/outputs", "must be an object"),
    "an output without a name": ({"outputs": {"": []}}, "/outputs/", "must not be empty"),
    "a name with a slash": ({"outputs": {"y/w": []}}, "/outputs/y~1w", "has a slash"),
    "a cotangent with a slash": ({"cotangents": {"y/w": 1.0}}, "/cotangents/y~1w", "has a slash"),
    "a shape of text": ({"outputs": {"y": "2x3"}}, "/outputs/y", "list of sizes"),
    "a fraction": ({"outputs": {"y": [2.0]}}, "/outputs/y", "list of sizes"),
    "a negative size": ({"outputs": {"y": [-1]}}, "/outputs/y", "list of sizes"),
    "an empty output": ({"outputs": {"y": [2, 0]}}, "/outputs/y", "empty"),
    "many dimensions": ({"outputs": {"y": [1] * 25}}, "/outputs/y", "at most 24"),
    "too many dimensions": ({"outputs": {"y": [1] * 33}}, "/outputs/y", "at most 32"),
    "a large output": ({"outputs": {"y": [TOO_LARGE]}}, "/outputs", "not one direction would fit"),
    "a huge output": ({"outputs": {"y": [TOO_LARGE] * 24}}, "/outputs", "more than 2^63"),
    "an infinite cotangent": ({"cotangents": {"y": ["Infinity"]}}, "/cotangents/y", "not a finite number"),
    "a cotangent of integers": (
        {"cotangents": {"y": {"datatype": "INT64", "shape": [1], "data": [1]}}}, "/cotangents/y", "INT64",
    ),
    "a mask as a cotangent": (
        {"cotangents": {"y": {"datatype": "BOOL", "shape": [1], "data": [True]}}}, "/cotangents/y", "BOOL",
    ),
    "a cotangent of 0": ({"cotangents": {"y": [0.0, 0.0]}}, "/cotangents/y", "is 0 everywhere"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "place", "words"), WRONG.values(), ids=WRONG)
def test_invalid_outputs_are_refused_at_their_place(fields, place, words):
    assert words in find_errors(make_plan_request(**fields))[place]


def test_too_many_values_are_refused_with_the_estimate_and_what_would_fit():
    body = make_plan_request(point={"w": [0.5] * 100}, directions={"kind": "coordinates"}, outputs={"y": [5000]})
    evaluations, fitting_count = 19 + 14 * 100, (2**21 // 5008 - 19) // 14
    assert find_errors(body) == {
        "/outputs": f"the outputs at {evaluations} points would hold {evaluations * 5008} numbers; at most {2**21} "
        "may; with Accept: application/vnd.safetensors 8 times as many may. Of directions, a count of "
        f"{fitting_count} would fit"
    }
    assert plan_evaluations(body, binary=True).evaluations == evaluations
    fitting = body | {"directions": {"kind": "coordinates", "count": fitting_count}}
    assert plan_evaluations(fitting).evaluations <= 2**21 // 5008
    assert "/outputs" in find_errors(body, Limits(bytes=2**24), binary=True)
    assert "/cotangents" in find_errors(
        make_plan_request(cotangents={"y": [1.0] * 5000}, directions={"kind": "random", "count": 200})
    )


def test_numbers_of_small_outputs_count_their_overhead():
    body = make_plan_request(outputs={f"y{i}": [] for i in range(900)}, directions={"kind": "random", "count": 20})
    assert "/outputs" in find_errors(body)


def test_the_number_of_outputs_is_limited():
    for fields in ({"outputs": {"a": [], "b": []}}, {"cotangents": {"a": 1.0, "b": 1.0}}):
        body = make_plan_request(point={"w": [0.5]}, **fields)
        assert find_errors(body, Limits(names=1)) == {f"/{next(iter(fields))}": "2 are more than the 1 that are taken"}


ALTERED = {
    "another shape": ({"outputs": {"y": [3, 2], "norm": []}}, "/plan/cotangents/y"),
    "an output more": ({"outputs": {"y": [2, 3], "norm": [], "z": []}}, "/plan/cotangents"),
    "an output less": ({"outputs": {"y": [2, 3]}}, "/plan/cotangents"),
    "no outputs": ({"outputs": {}, "cotangents": {}, "output_order": []}, "/plan/checks"),
    "an order of other names": ({"output_order": ["y", "z"]}, "/plan/output_order"),
    "a name twice": ({"output_order": ["y", "y", "norm"]}, "/plan/output_order"),
    "no order": ({"output_order": []}, "/plan/output_order"),
    "another order": ({"output_order": ["norm", "y"]}, "/plan/outputs"),
    "another cotangent": ({"cotangents": {"y": [[1.0] * 3] * 2, "norm": 1.0}}, "/plan/cotangents/y"),
}


@pytest.mark.parametrize(("changes", "place"), ALTERED.values(), ids=ALTERED)
def test_altered_outputs_are_refused(changes, place):
    result = plan_evaluations(make_plan_request(outputs=SHAPES))
    with pytest.raises(InvalidRequestError) as error:
        decode(result, **changes)
    assert place in {entry["pointer"] for entry in error.value.errors}


def test_outputs_keep_the_order_of_the_request():
    result = plan_evaluations(make_plan_request(outputs=SHAPES))
    outputs = dict(reversed(result.plan["outputs"].items()))
    assert list(decode(result, outputs=outputs).cotangents) == list(SHAPES)


def test_outputs_do_not_take_the_checksums_of_a_loss():
    result, loss = plan_evaluations(make_plan_request(outputs=SHAPES)), plan_evaluations(make_plan_request())
    assert {name: result.plan["checks"][name] for name in loss.plan["checks"]} == loss.plan["checks"]
    with pytest.raises(InvalidRequestError):
        decode(loss, outputs={"y": []}, cotangents={"y": 1.0}, output_order=["y"])
