import inspect

import pytest
from jsonschema import Draft202012Validator

from schemas.problem import InvalidRequestError
from service.checking import language
from service.numerics.models import PRESETS
from service.numerics.ops import REGISTRY

CONV = {"name": "c", "op": "conv2d", "inputs": ["x", "w"]}
LOSS = {"name": "loss", "op": "half_squared_error", "inputs": ["c", "y"]}
LEAVES = {"tensors": {"x": [[1, 2], [3, 4]], "y": [[1.0]]}, "weights": {"w": [[1, 1], [1, 1]]}}


def graph_of(*nodes, **fields):
    return language.graph_of(language.parsed(LEAVES | {"model": {"nodes": list(nodes)}} | fields))


def refused(*nodes, **fields):
    with pytest.raises(InvalidRequestError) as error:
        graph_of(*nodes, **fields)
    return {each["pointer"]: each["detail"] for each in error.value.errors}


def test_inputs_in_a_row_by_name_and_constants_are_the_same():
    for inputs in (["x", "w"], {"weight": "w", "input": "x"}):
        assert graph_of(CONV | {"inputs": inputs}, LOSS).nodes[0].operands == ("x", "w", None)
    biased = graph_of(CONV | {"inputs": {"input": "x", "bias": 0.5, "weight": "w"}}, LOSS)
    assert biased.nodes[0].operands == ("x", "w", 0.5)


def test_attributes_come_with_their_defaults():
    op = graph_of(CONV | {"padding": [1, 0], "stride": 3}, LOSS).nodes[0].op
    assert (op.padding, op.stride, op.dilation, op.groups) == ([1, 0], 3, 1, 1)


NODES = "/model/nodes"
WRONG = {
    "unknown op": ([CONV | {"op": "conv2"}, LOSS], f"{NODES}/0/op", "did you mean 'conv2d'?"),
    "no op": ([{"name": "c", "inputs": []}, LOSS], f"{NODES}/0/op", "is missing"),
    "unknown attribute": ([CONV | {"strid": 1}, LOSS], f"{NODES}/0/strid", "unknown field 'strid'"),
    "attribute of another type": ([CONV | {"groups": "1"}, LOSS], f"{NODES}/0/groups", "must be an integer"),
    "attribute out of its limits": ([CONV | {"stride": 0}, LOSS], f"{NODES}/0/stride", "greater than or equal to 1"),
    "no inputs": ([{"name": "c", "op": "tanh"}, LOSS], f"{NODES}/0/inputs", "is missing"),
    "too few": ([CONV | {"inputs": ["x"]}, LOSS], f"{NODES}/0/inputs", "bias (optional); weight is missing"),
    "too many": ([CONV | {"inputs": ["x"] * 4}, LOSS], f"{NODES}/0/inputs", "4 inputs were given"),
    "not its name": (
        [CONV | {"inputs": {"input": "x", "weight": "w", "kernel": "w"}}, LOSS],
        f"{NODES}/0/inputs/kernel",
        "conv2d takes input, weight, bias (optional); not this",
    ),
    "an input that is not there": ([CONV | {"inputs": ["x", "v"]}, LOSS], f"{NODES}/0", "reads 'v'"),
    "shapes that do not fit": (
        [CONV | {"padding": 1}, LOSS],
        f"{NODES}/1",
        "got input 'c' of shape [3, 3], target 'y' of shape [1, 1]",
    ),
    "no nodes": ([], NODES, "at least 1 item"),
}


@pytest.mark.parametrize(("nodes", "place", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_at_its_place(nodes, place, words):
    assert words in refused(*nodes)[place]


def test_a_tensor_that_nothing_reads_is_said_at_the_tensor():
    found = refused(CONV, LOSS, tensors={"x": [[1, 2], [3, 4]], "y": [[1]], "z": 1})
    assert list(found) == ["/tensors/z"]


BESIDE_PRESET = {
    "a tensor is missing": ({"tensors": {"x": [[1, 2], [3, 4]]}}, "/tensors/y", "which is no tensor"),
    "one too many": ({"weights": {"w1": [[1]], "w2": [1] * 4, "w3": 1}}, "/weights/w3", "does not reach the loss"),
    "w2 of another length": (
        {"weights": {"w1": [[1]], "w2": [1] * 3}},
        "/weights/w2",
        "got input 'L1A' of shape [4], other 'w2' of shape [3]",
    ),
    "y of another length": ({"tensors": {"x": [[1, 2], [3, 4]], "y": [1]}}, "/tensors/y", "of shape [1]"),
    "a kernel too large": ({"weights": {"w1": [[1] * 3] * 3, "w2": [1]}}, "/weights/w1", "a kernel that fits"),
    "no such preset": ({"model": "mlp"}, "/model", "there are: conv_tanh_scale_sigmoid"),
    "a node's name": (
        {"tensors": {"x": [[1, 2], [3, 4]], "y": [1] * 4, "C1": 1}},
        "/tensors/C1",
        "may not take the name",
    ),
}


@pytest.mark.parametrize(("fields", "place", "words"), BESIDE_PRESET.values(), ids=BESIDE_PRESET)
def test_beside_a_preset_it_is_the_tensor_that_is_at_fault(fields, place, words):
    body = {"tensors": {"x": [[1, 2], [3, 4]], "y": [1] * 4}, "weights": {"w1": [[1]], "w2": [1] * 4}}
    language.graph_of(language.parsed(body))
    with pytest.raises(InvalidRequestError) as error:
        language.graph_of(language.parsed(body | fields))
    assert words in {each["pointer"]: each["detail"] for each in error.value.errors}[place]


def test_the_catalogue_of_ops_is_the_registry():
    entries = {entry["name"]: entry for entry in language.ops()["ops"]}
    assert list(entries) == sorted(REGISTRY)
    for name, entry in entries.items():
        assert entry["backward"] == inspect.getdoc(REGISTRY[name])
        assert [slot["name"] for slot in entry["inputs"]] == [slot.name for slot in REGISTRY[name].slots]
        Draft202012Validator.check_schema(entry["attributes"])
    assert entries["conv2d"]["inputs"][2] == {"name": "bias", "optional": True, "several": False, "of": ["float"]}
    assert entries["cat"]["inputs"] == [{"name": "tensors", "optional": False, "several": True, "of": ["float"]}]
    assert entries["cross_entropy"]["inputs"][1]["of"] == ["index", "float"]
    validator = Draft202012Validator(entries["conv2d"]["attributes"])
    assert validator.is_valid({"stride": [1, 2]})
    assert not validator.is_valid({"stride": 0})
    assert not validator.is_valid({"strides": 1})


def test_the_catalogue_of_models_is_that_of_presets():
    assert [entry["name"] for entry in language.models()["models"]] == list(PRESETS)
