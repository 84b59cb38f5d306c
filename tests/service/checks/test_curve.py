"""From a request to the numbers of a curve, without HTTP."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.curve import compute_curve
from service.checks.graph.check import check
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.composite import CompositeOp, SeveralOutputsOp


def make_element(name, *index):
    return {"name": name, "index": list(index)}


def collect_errors(body, limits=None):
    with pytest.raises(InvalidRequestError) as error:
        compute_curve(body, limits)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_reference_example_has_its_known_numbers(example):
    answer = compute_curve(example | {"element": make_element("w1", 0, 0)})
    assert answer["analytic"] == pytest.approx(-0.1342557202950444, rel=1e-15)
    lists = [answer[name] for name in ("steps", "forward", "central", "complex_step")]
    assert {len(values) for values in lists} == {65}
    assert all(type(number) is float for values in lists for number in values)
    engine = answer["engine"]
    assert abs(engine["value"] - answer["analytic"]) <= engine["error_bound"] < 1e-10
    assert 1e-16 < engine["step"] <= 1


def test_an_index_may_count_from_the_end(example):
    first = compute_curve(example | {"element": make_element("w2", 3)})
    assert compute_curve(example | {"element": make_element("w2", -1)}) == first
    assert first["analytic"] == pytest.approx(-0.08370645, rel=1e-7)


@pytest.mark.parametrize("method", ["adaptive", "central", "forward"])
def test_curve_engine_is_the_difference_of_the_requested_method(example, method):
    body = example | {"finite_difference": {"method": method}}
    engine = compute_curve(body | {"element": make_element("w1", 1, 0)})["engine"]
    gradient = check(body | {"with_respect_to": ["w1"]})["gradients"]["w1"]
    assert abs(engine["value"] - gradient["finite_difference"][1][0]) <= 2 * gradient["error_bound"][1][0]


def test_a_step_that_is_given_is_the_step(example):
    body = example | {"finite_difference": {"method": "central", "step": 1e-3}, "element": make_element("w1", 0, 1)}
    answer = compute_curve(body)
    assert answer["engine"]["step"] == 1e-3
    assert answer["engine"]["value"] == pytest.approx(answer["central"][answer["steps"].index(1e-3)], rel=1e-9)


def test_an_engine_without_an_answer_has_no_step():
    body = {
        "tensors": {"x": -1.0},
        "weights": {},
        "model": {"nodes": [{"name": "loss", "op": "log", "inputs": ["x"]}]},
        "element": make_element("x"),
    }
    answer = compute_curve(body)
    assert answer["engine"] == {"value": "NaN", "error_bound": "Infinity", "step": "NaN"}
    assert set(answer["central"]) == set(answer["forward"]) == set(answer["complex_step"]) == {"NaN"}
    assert answer["analytic"] == -1.0


def test_the_point_is_rounded_to_the_dtype_and_the_loss_is_not(example):
    """The curve is that of the float64 loss at the rounded point; the analytic gradient alone is of the dtype."""
    body = example | {"element": make_element("w1", 0, 0), "dtype": "float32"}
    rounded = example | {"element": make_element("w1", 0, 0)}
    rounded["weights"] = {
        name: np.array(weight, np.float32).astype(float).tolist() for name, weight in example["weights"].items()
    }
    narrow, wide = compute_curve(body), compute_curve(rounded)
    assert narrow["central"] == wide["central"]
    assert narrow["complex_step"] == wide["complex_step"]
    assert narrow["analytic"] == float(np.float32(narrow["analytic"]))
    assert narrow["analytic"] != wide["analytic"] == pytest.approx(narrow["analytic"], rel=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"with_respect_to": []},
        {"with_respect_to": ["w2"]},
        {"candidate": {"w2": ["NaN", 1, 2, 3]}, "candidate_dtype": "FP16"},
        {"tolerance": {"rtol": 1}},
        {"include": [], "encoding": "b64", "seed": 7},
        {"include": ["intermediates"]},
    ],
    ids=str,
)
def test_other_fields_of_a_check_do_not_change_the_curve(example, fields):
    plain = compute_curve(example | {"element": make_element("x", 2, 1)})
    answer = compute_curve(example | fields | {"element": make_element("x", 2, 1)})
    for name in ("analytic", "steps", "forward", "central", "complex_step"):
        assert answer[name] == plain[name]


def test_invalid_candidate_is_reported_by_a_curve(example):
    body = example | {"with_respect_to": ["q"], "candidate": {"r": 1}, "element": make_element("w1", 0)}
    assert set(collect_errors(body)) == {"/with_respect_to/0", "/candidate/r", "/element/index"}


def test_model_without_weights_has_a_curve(example):
    tensors = example["tensors"] | example["weights"]
    answer = compute_curve({"tensors": tensors, "weights": {}, "element": make_element("w1", 0, 0)})
    assert answer["analytic"] == pytest.approx(-0.1342557202950444, rel=1e-15)


def find_weights_before_pieces(preset):
    """Weights from which the loss is reached through an op that takes no complex step, by the nodes of the preset."""
    weights_by_value, without = {name: {name} for name in preset.weights}, set()
    for node in preset.nodes:
        # An output has its node's name in front, as top.values has.
        owners = [operand if operand in weights_by_value else operand.partition(".")[0] for operand in node["inputs"]]
        weights = set().union(*(weights_by_value.get(owner, ()) for owner in owners))
        weights_by_value[node["name"]] = weights
        op = OP_REGISTRY[node["op"]]
        # A composite op takes what its steps take, and those of the presets are smooth, but for an order.
        is_smooth = issubclass(op, CompositeOp) and not issubclass(op, SeveralOutputsOp)
        if not (op.supports_complex_step or is_smooth):
            without |= weights
    return without


def test_pieces_lie_behind_some_weights_of_lenet_alone():
    assert (
        find_weights_before_pieces(PRESETS["lenet"])
        == {"k1", "a1", "k2", "a2", "w1", "b1"}
        < {*PRESETS["lenet"].weights}
    )
    assert find_weights_before_pieces(PRESETS["conv_autoencoder"]) == {*PRESETS["conv_autoencoder"].weights}
    assert find_weights_before_pieces(PRESETS["logistic_regression"]) == set()


def find_middle(weight):
    """Index of the element in the middle."""
    return [length // 2 for length in np.shape(weight)]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_every_preset_has_curves(preset):
    """The complex step is there where no op of pieces is on the way, and is then the gradient to the last digits."""
    without = set()
    for name, weight in preset.weights.items():
        answer = compute_curve(preset.example_request | {"element": make_element(name, *find_middle(weight))})
        size = max(abs(answer["analytic"]), 1e-3)
        assert abs(answer["central"][answer["steps"].index(1e-5)] - answer["analytic"]) <= 1e-7 * size, name
        assert abs(answer["engine"]["value"] - answer["analytic"]) <= answer["engine"]["error_bound"] + 1e-14 * size
        if "complex_step" in answer:
            assert abs(answer["complex_step"][0] - answer["analytic"]) <= 1e-14 * size, name
        else:
            without.add(name)
    assert without == find_weights_before_pieces(preset)


def make_large_request(size):
    """A linear layer whose weight has many elements."""
    generator = np.random.default_rng(0)
    nodes = [
        {"name": "hidden", "op": "linear", "inputs": ["x", "w"]},
        {"name": "active", "op": "tanh", "inputs": ["hidden"]},
        {"name": "loss", "op": "mse_loss", "inputs": ["active", "y"]},
    ]
    return {
        "tensors": {"x": generator.normal(size=(8, size)).tolist(), "y": np.zeros((8, size)).tolist()},
        "weights": {"w": (generator.normal(size=(size, size)) / size**0.5).tolist()},
        "model": {"nodes": nodes},
        "element": make_element("w", 0, 1),
    }


def test_large_tensor_has_a_curve_within_limits():
    answer = compute_curve(make_large_request(200), Limits(work=25 * 10**7))
    assert answer["complex_step"][0] == pytest.approx(answer["analytic"], rel=1e-13)


LIMITS = {
    "names": (Limits(names=1), "/tensors", "2 are more than the 1"),
    "elements": (Limits(elements=20), "/model", "the limit is 20"),
    "work": (Limits(work=10**6), "/model", "the curve would take about"),
    "seconds": (
        Limits(seconds=0),
        "/element",
        "out of time: the request was being read",
    ),
}


@pytest.mark.parametrize(("limits", "place", "words"), LIMITS.values(), ids=LIMITS)
def test_curve_keeps_the_limits_of_a_check(example, limits, place, words):
    assert words in collect_errors(example | {"element": make_element("w1", 0, 0)}, limits)[place]


def test_same_request_has_the_same_numbers(example):
    body = example | {"element": make_element("w1", 1, 1)}
    assert compute_curve(body) == compute_curve(body)
