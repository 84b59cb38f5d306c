import inspect

import orjson
import pytest
import torch
from jsonschema import Draft202012Validator

from schemas.problem_details import InvalidRequestError
from service.checks.graph import model_language
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY

CONV = {"name": "c", "op": "conv2d", "inputs": ["x", "w"]}
LOSS = {"name": "loss", "op": "half_squared_error", "inputs": ["c", "y"]}
LEAVES = {"tensors": {"x": [[1, 2], [3, 4]], "y": [[1.0]]}, "weights": {"w": [[1, 1], [1, 1]]}}


def parse_graph(*nodes, **fields):
    return model_language.build_graph(
        model_language.parse_check_request(LEAVES | {"model": {"nodes": list(nodes)}} | fields)
    )


def collect_errors(*nodes, **fields):
    with pytest.raises(InvalidRequestError) as error:
        parse_graph(*nodes, **fields)
    return {entry["pointer"]: entry["detail"] for entry in error.value.errors}


def test_inputs_in_a_row_by_name_and_constants_are_the_same():
    for inputs in (["x", "w"], {"weight": "w", "input": "x"}):
        assert parse_graph(CONV | {"inputs": inputs}, LOSS).nodes[0].operands == ("x", "w", None)
    biased = parse_graph(CONV | {"inputs": {"input": "x", "bias": 0.5, "weight": "w"}}, LOSS)
    assert biased.nodes[0].operands == ("x", "w", 0.5)


@pytest.mark.parametrize("inputs", [["x", "w", None], {"input": "x", "weight": "w", "bias": None}])
def test_null_stands_for_what_is_left_out(inputs):
    graph = parse_graph(CONV | {"inputs": inputs}, LOSS)
    assert graph.nodes[0].operands == ("x", "w", None)
    assert model_language.graph_to_dict(graph)[0]["inputs"] == ["x", "w"]


def test_null_before_an_optional_input_that_is_given_is_written_by_name():
    nodes = [
        {"name": "n", "op": "layer_norm", "inputs": ["x", None, "b"], "normalized_shape": 2},
        {"name": "loss", "op": "sum", "inputs": ["n"]},
    ]
    graph = parse_graph(*nodes, tensors={"x": [[1, 2], [3, 4]]}, weights={"b": [1, 1]})
    assert graph.nodes[0].operands == ("x", None, "b")
    assert model_language.graph_to_dict(graph)[0]["inputs"] == {"input": "x", "bias": "b"}


def test_null_for_a_required_input_is_refused():
    place = f"{NODES}/0/inputs"
    assert "weight is missing" in collect_errors(CONV | {"inputs": ["x", None]}, LOSS)[place]
    several = {"name": "c", "op": "cat", "inputs": ["x", None], "dim": 0}
    assert "null is none of tensors" in collect_errors(several, LOSS)[place]


def test_attributes_come_with_their_defaults():
    op = parse_graph(CONV | {"padding": [1, 0], "stride": 3}, LOSS).nodes[0].op
    assert (op.padding, op.stride, op.dilation, op.groups) == ([1, 0], 3, 1, 1)


NODES = "/model/nodes"
WRONG = {
    "unknown op": ([CONV | {"op": "conv2"}, LOSS], f"{NODES}/0/op", "did you mean 'conv2d'?"),
    "null for an op": ([CONV | {"op": None}, LOSS], f"{NODES}/0/op", "must be the name of an op; null was given"),
    "three strides": ([CONV | {"stride": [1, 2, 3]}, LOSS], f"{NODES}/0/stride", "must have at most 2 items"),
    "no op": ([{"name": "c", "inputs": []}, LOSS], f"{NODES}/0/op", "is missing"),
    "unknown attribute": (
        [CONV | {"strid": 1}, LOSS],
        f"{NODES}/0/strid",
        "unknown field 'strid'; did you mean 'stride'?",
    ),
    "attribute of another type": (
        [CONV | {"groups": "1"}, LOSS],
        f"{NODES}/0/groups",
        "must be an integer; '1' was given",
    ),
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
def test_model_error_points_to_its_place(nodes, place, words):
    assert words in collect_errors(*nodes)[place]


CAT = {"name": "c", "op": "cat"}


@pytest.mark.parametrize("inputs", [["x", "x", "y"], [["x", "x", "y"]], {"tensors": ["x", "x", "y"]}])
def test_several_tensors_may_be_listed_in_three_ways(inputs):
    body = {"tensors": {"x": [1.5], "y": [2]}, "weights": {}, "model": {"nodes": [CAT | {"inputs": inputs}, SUM]}}
    graph = model_language.build_graph(model_language.parse_check_request(body))
    assert graph.nodes[0].operands == ("x", "x", "y")
    assert model_language.graph_to_dict(graph)[0]["inputs"] == ["x", "x", "y"]


SUM = {"name": "loss", "op": "sum", "inputs": ["c"]}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (CAT | {"inputs": []}, "cat takes tensors (one or more); tensors is missing"),
        (CAT | {"inputs": [[]]}, "tensors is missing"),
        ({"name": "c", "op": "tanh", "inputs": [["x", "y"]]}, "tanh takes input; input is one tensor"),
        ({"name": "c", "op": "add", "inputs": {"input": "x", "other": ["x", "y"]}}, "other is one tensor"),
        ({"name": "c", "op": "conv2d", "inputs": ["x", "x", []]}, "bias is one tensor"),
    ],
)
def test_several_tensors_for_one_input_are_refused(node, words):
    assert words in collect_errors(node, SUM)["/model/nodes/0/inputs"]


INTEGERS = {"datatype": "INT64", "shape": [2], "data": [0, 1]}
TRUTHS = {"datatype": "BOOL", "shape": [2], "data": [True, False]}
TABLE = [[1.0, 2.0], [3.0, 4.0]]


def list_kinds(op, inputs, tensors, **attributes):
    node = {"name": "c", "op": op, "inputs": inputs, **attributes}
    body = {"tensors": tensors, "weights": {"table": TABLE}, "model": {"nodes": [node, SUM]}}
    return model_language.build_graph(model_language.parse_check_request(body)).leaf_kinds


@pytest.mark.parametrize(
    ("op", "inputs", "tensors", "expected"),
    [
        ("embedding", ["i", "table"], {"i": [0, 1]}, {"i": "index"}),
        ("embedding", ["i", "table"], {"i": INTEGERS}, {"i": "index"}),
        ("cross_entropy", ["table", "i"], {"i": [0, 1]}, {"i": "index"}),
        ("cross_entropy", ["table", "i"], {"i": TABLE}, {}),
        ("cross_entropy", ["table", "i"], {"i": [[0, 1], [1, 0]]}, {"i": "index"}),
        ("where", ["m", "table", 0], {"m": TRUTHS}, {"m": "bool"}),
        ("where", ["m", "table", 0], {"m": [1, 0]}, {"m": "bool"}),
        ("add", ["table", "i"], {"i": [0, 1]}, {}),
    ],
)
def test_bare_integers_take_the_kind_of_their_slot(op, inputs, tensors, expected):
    assert list_kinds(op, inputs, tensors) == expected


@pytest.mark.parametrize(
    ("op", "inputs", "tensors", "words"),
    [
        ("embedding", ["i", "table"], {"i": [0.0, 1.0]}, "takes integers as input; 'i' is of floats"),
        ("embedding", ["i", "table"], {"i": [0, 2]}, "an index from 0 to 1; its values are 0 to 2"),
        ("embedding", ["i", "table"], {"i": TRUTHS}, "'i' is of truths"),
        ("add", ["table", "i"], {"i": INTEGERS}, "takes floats as other; 'i' is of integers"),
        ("add", ["table", "m"], {"m": TRUTHS}, "takes floats as other; 'm' is of truths"),
        ("where", ["m", "table", 0], {"m": [1.0, 0.0]}, "takes truths (datatype BOOL) as condition; 'm' is of floats"),
        ("where", ["m", "table", 0], {"m": [2, 0]}, "'m' is of floats"),
        ("cross_entropy", ["table", "i"], {"i": [0, 5]}, "labels from 0 to 1"),
    ],
)
def test_wrong_kind_of_operand_is_refused_at_the_tensor(op, inputs, tensors, words):
    with pytest.raises(InvalidRequestError) as error:
        list_kinds(op, inputs, tensors)
    (placed,) = error.value.errors
    assert placed["pointer"] == f"/tensors/{next(iter(tensors))}"
    assert words in placed["detail"]


@pytest.mark.parametrize(
    ("dtype", "eps"), [("float64", 2.0**-52), ("float32", 2.0**-23), ("float16", 2.0**-23), ("bfloat16", 2.0**-23)]
)
def test_defaults_of_the_dtype_are_spelled_out(dtype, eps):
    """As PyTorch has it, which computes half precision in float32."""
    node = {"name": "c", "op": "rms_norm", "inputs": ["table"], "normalized_shape": 2}
    body = {"tensors": {}, "weights": {"table": TABLE}, "model": {"nodes": [node, SUM]}, "dtype": dtype}
    assert (
        model_language.graph_to_dict(model_language.build_graph(model_language.parse_check_request(body)))[0]["eps"]
        == eps
    )
    x = torch.tensor([1e-3, -2e-3], dtype=getattr(torch, dtype))
    normal = torch.nn.functional.rms_norm
    assert torch.equal(normal(x, [2]), normal(x, [2], eps=eps))


def test_unread_tensor_is_reported_at_the_tensor():
    errors = collect_errors(CONV, LOSS, tensors={"x": [[1, 2], [3, 4]], "y": [[1]], "z": 1})
    assert list(errors) == ["/tensors/z"]


BESIDE_PRESET = {
    "a tensor is missing": (
        {"tensors": {"x": [[1, 2], [3, 4]]}},
        "/tensors/y",
        "here (in the preset conv_tanh_scale_sigmoid, which is meant where no `model` is given)",
    ),
    "a tensor of a preset is missing": (
        {"model": "logistic_regression", "tensors": {"x": [[1, 2]]}, "weights": {"w": [1, 2]}},
        "/tensors/y",
        "here (in the preset logistic_regression)",
    ),
    "one too many": ({"weights": {"w1": [[1]], "w2": [1] * 4, "w3": 1}}, "/weights/w3", "does not reach the loss"),
    "w2 of another length": (
        {"weights": {"w1": [[1]], "w2": [1] * 3}},
        "/weights/w2",
        "got input 'L1A' of shape [4], other 'w2' of shape [3]",
    ),
    "y of another length": ({"tensors": {"x": [[1, 2], [3, 4]], "y": [1]}}, "/tensors/y", "of shape [1]"),
    "a kernel too large": ({"weights": {"w1": [[1] * 3] * 3, "w2": [1]}}, "/weights/w1", "a kernel no larger"),
    "x of another rank": ({"tensors": {"x": [1, 2], "y": [1] * 4}}, "/tensors/x", "input 'x' of shape [2]"),
    "w2 of another rank": (
        {"weights": {"w1": [[1]], "w2": [[1] * 4]}, "tensors": {"x": [[1, 2], [3, 4]], "y": [1] * 4}},
        "/weights/w2",
        "got input 'L2A' of shape [1, 4], target 'y' of shape [4]",
    ),
    **{
        f"w2 of shape {shape}": (
            {"weights": {"w1": [[1]], "w2": w2}},
            "/weights/w2",
            f"one element for each of node 'L1A', shape [4]; its shape is {shape}",
        )
        for w2, shape in ((0.5, []), ([0.5], [1]))
    },
    "no such preset": ({"model": "mlp"}, "/model", "there are: conv_tanh_scale_sigmoid"),
    "a node's name": (
        {"tensors": {"x": [[1, 2], [3, 4]], "y": [1] * 4, "C1": 1}},
        "/tensors/C1",
        "may not take the name",
    ),
}


@pytest.mark.parametrize(("fields", "place", "words"), BESIDE_PRESET.values(), ids=BESIDE_PRESET)
def test_mismatch_with_a_preset_is_reported_at_the_tensor(fields, place, words):
    body = {"tensors": {"x": [[1, 2], [3, 4]], "y": [1] * 4}, "weights": {"w1": [[1]], "w2": [1] * 4}}
    model_language.build_graph(model_language.parse_check_request(body))
    with pytest.raises(InvalidRequestError) as error:
        model_language.build_graph(model_language.parse_check_request(body | fields))
    assert words in {entry["pointer"]: entry["detail"] for entry in error.value.errors}[place]


def test_a_graph_of_ones_own_broadcasts_what_a_preset_does_not():
    preset = PRESETS["conv_tanh_scale_sigmoid"]
    model = {"nodes": list(map(dict, preset.nodes))}
    body = {"tensors": preset.tensors, "weights": {**preset.weights, "w2": [0.5]}, "model": model}
    assert model_language.build_graph(model_language.parse_check_request(body)).shapes["L2"] == (4,)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_example_of_a_preset_keeps_its_equal_sizes(preset):
    graph = model_language.build_graph(model_language.parse_check_request(preset.example_request))
    for name, node in preset.shaped_like.items():
        assert graph.shapes[name] == graph.shapes[node]


def test_the_catalogue_of_ops_is_the_registry():
    entries = {entry["name"]: entry for entry in model_language.list_ops()["ops"]}
    assert list(entries) == sorted(OP_REGISTRY)
    for name, entry in entries.items():
        assert entry["backward"] == inspect.getdoc(OP_REGISTRY[name])
        assert [slot["name"] for slot in entry["inputs"]] == [slot.name for slot in OP_REGISTRY[name].slots]
        Draft202012Validator.check_schema(entry["attributes"])
    assert entries["conv2d"]["inputs"][2] == {"name": "bias", "optional": True, "several": False, "of": ["float"]}
    assert entries["cat"]["inputs"] == [{"name": "tensors", "optional": False, "several": True, "of": ["float"]}]
    assert entries["cross_entropy"]["inputs"][1]["of"] == ["index", "float"]
    assert entries["conv2d"]["outputs"] == [{"name": None, "of": "float"}]
    assert entries["topk"]["outputs"] == [{"name": "values", "of": "float"}, {"name": "indices", "of": "index"}]
    assert entries["split"]["outputs"] == [{"name": "*", "of": "float"}]
    assert entries["gt"]["outputs"] == [{"name": None, "of": "bool"}]
    validator = Draft202012Validator(entries["conv2d"]["attributes"])
    assert validator.is_valid({"stride": [1, 2]})
    assert not validator.is_valid({"stride": 0})
    assert not validator.is_valid({"strides": 1})


def test_the_catalogue_of_models_is_that_of_presets():
    assert [entry["name"] for entry in model_language.list_models()["models"]] == list(PRESETS)


def make_constant_node(op, inputs, dtype="float32", **attributes):
    """A graph of one node with a constant in it, and the operands and op at which all routes differentiate."""
    node = {"name": "c", "op": op, "inputs": inputs, **attributes}
    body = {"tensors": {}, "weights": {"table": TABLE}, "model": {"nodes": [node, SUM]}, "dtype": dtype}
    graph = model_language.build_graph(model_language.parse_check_request(body))
    return graph, graph.nodes[0]


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 0.1 + 1.4901161138336505e-09), ("float64", 0.1)])
def test_constant_is_rounded_like_tensors_and_shown_unrounded(dtype, expected):
    graph, node = make_constant_node("sub", ["table", 0.1], dtype)
    assert node.operands == ("table", expected)
    assert model_language.graph_to_dict(graph)[0]["inputs"] == ["table", 0.1]


@pytest.mark.parametrize(("op", "attribute"), [("clamp", {"max": 0.1}), ("pad", {"pad": [1, 0], "value": 0.1})])
def test_number_beside_elements_is_rounded_too(op, attribute):
    graph, node = make_constant_node(op, ["table"], "bfloat16", **attribute)
    (name, *_) = reversed(attribute)
    assert getattr(node.op, name) == 0.10009765625
    assert model_language.graph_to_dict(graph)[0][name] == 0.1


def test_a_constant_beyond_the_dtype_is_refused():
    with pytest.raises(InvalidRequestError) as error:
        make_constant_node("mul", ["table", 1e6], "float16")
    assert error.value.errors == [
        {"pointer": "/model/nodes/0/inputs", "detail": "a number too large for dtype float16"}
    ]
    with pytest.raises(InvalidRequestError):
        make_constant_node("mul", ["table", 10**400])


def test_a_model_of_known_structure_is_not_built_again():
    assert parse_graph(CONV, LOSS) is parse_graph(CONV, LOSS)
    other_values = LEAVES | {"tensors": {"x": [[1, 2], [3, 5]], "y": [[2.0]]}}
    assert parse_graph(CONV, LOSS) is parse_graph(CONV, LOSS, **other_values)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "float32"},
        {"weights": {"w": [[1.5]]}, "tensors": {"x": [[1, 2], [3, 4]], "y": [[1.0, 2.0], [3.0, 4.0]]}},
        {"model": {"nodes": [CONV | {"inputs": ["x", "w", 0.0]}, LOSS]}},
        {"model": {"nodes": [CONV | {"inputs": ["x", "w", -0.0]}, LOSS]}},
        {"model": {"nodes": [CONV, LOSS | {"reduction": "sum"}]}},
    ],
)
def test_a_model_of_another_structure_is_another(change):
    graphs = [parse_graph(CONV, LOSS), parse_graph(CONV, LOSS, **change)]
    assert graphs[0] is not graphs[1]
    assert parse_graph(CONV, LOSS) is graphs[0]


def test_values_of_a_known_structure_are_checked_each_time():
    nodes = [
        {"name": "row", "op": "index_select", "inputs": ["x", "i"], "dim": 0},
        {"name": "loss", "op": "sum", "inputs": ["row"]},
    ]
    leaves = {"tensors": {"i": [1]}, "weights": {"x": [[1.0], [2.0]]}}
    assert parse_graph(*nodes, **leaves)
    assert list(collect_errors(*nodes, **leaves | {"tensors": {"i": [2]}})) == ["/tensors/i"]


def test_a_large_model_is_not_kept(monkeypatch):
    monkeypatch.setattr(model_language, "_MAX_CACHED_CHARACTERS", 10)
    assert parse_graph(CONV, LOSS) is not parse_graph(CONV, LOSS)
    monkeypatch.setattr(model_language, "_MAX_CACHED_NODES", 1)
    graph = parse_graph(CONV, LOSS)
    assert graph is not parse_graph(CONV, LOSS)
    parts = (model_language.graph_to_dict(graph), model_language.write_graph_text(graph))
    assert model_language.count_graph_bytes(graph) == sum(len(orjson.dumps(part)) for part in parts)
