import inspect
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.overrides import get_testing_overrides

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph import model_language
from service.checks.graph.parse import parse_problem
from service.checks.graph.text_form import expand_model_text, list_positional_parameters, write_graph_text
from service.numerics.model.graph import Graph, Node
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY
from tests.random_graphs import draw_graph

pytestmark = pytest.mark.covers_by_cases

TENSORS = {"x": [[1.0, 2.0], [3.0, 4.0]], "y": [[1.0, 0.0], [0.0, 1.0]]}
WEIGHTS = {"w": [[1.0, -1.0], [2.0, 0.5]], "b": [0.5, -0.5]}


def build_graph(model, tensors=TENSORS, weights=WEIGHTS, **fields):
    body = {"tensors": tensors, "weights": weights, "model": model} | fields
    return model_language.build_graph(model_language.parse_check_request(body))


def collect_errors(model, **fields):
    with pytest.raises(InvalidRequestError) as error:
        build_graph(model, **fields)
    return [(entry["pointer"], entry["detail"]) for entry in error.value.errors]


TEXT = """# a network
z = linear(x, w, b)
a = gelu(z, approximate="tanh")

two = cat([a, z], dim=-1)  # side by side
mean = mean(two, 1, keepdim=True)
all = add(a, mean)
loss = mse_loss(all, y)
"""
NODES = [
    {"name": "z", "op": "linear", "inputs": ["x", "w", "b"]},
    {"name": "a", "op": "gelu", "inputs": ["z"], "approximate": "tanh"},
    {"name": "two", "op": "cat", "inputs": [["a", "z"]], "dim": -1},
    {"name": "mean", "op": "mean", "inputs": ["two"], "dim": 1, "keepdim": True},
    {"name": "all", "op": "add", "inputs": ["a", "mean"]},
    {"name": "loss", "op": "mse_loss", "inputs": ["all", "y"]},
]


def test_text_list_and_object_are_one_graph():
    graphs = [build_graph(model) for model in (TEXT, NODES, {"nodes": NODES})]
    assert graphs[0].listed_nodes == graphs[1].listed_nodes == graphs[2].listed_nodes
    assert write_graph_text(graphs[0]).split("\n") == [
        "z = linear(x, w, b)",
        'a = gelu(z, approximate="tanh")',
        "two = cat([a, z], dim=-1)",
        "mean = mean(two, dim=1, keepdim=True)",
        "all = add(a, mean)",
        "loss = mse_loss(all, y)",
    ]


WRITTEN_AS_IN_PYTORCH = {
    "layer_norm(x, [2], weight, bias)": "layer_norm(x, [2], weight, bias)",
    "layer_norm(x, [2], None, bias)": "layer_norm(x, [2], bias=bias)",
    "layer_norm(x, normalized_shape=(2,), weight=weight, eps=0.5)": "layer_norm(x, [2], weight, eps=0.5)",
    "layer_norm(x, weight, bias, normalized_shape=2)": "layer_norm(x, 2, weight, bias)",
    "sum(x, 0, True)": "sum(x, dim=0, keepdim=True)",
    "mul(2, x)": "mul(2, x)",
    "stack(x, x, dim=1)": "stack([x, x], dim=1)",
    "stack([x], 1)": "stack([x], dim=1)",
    'einsum("ij,kj->ik", x, x)': 'einsum("ij,kj->ik", [x, x])',
    "clamp(x, -1.0, max=1)": "clamp(x, min=-1.0, max=1.0)",
    "transpose(x, 0, 1)": "transpose(x, dim0=0, dim1=1)",
    "scaled_dot_product_attention(x, x, x, is_causal=True)": "scaled_dot_product_attention(x, x, x, is_causal=True)",
    "pow(input=x, exponent=2)": "pow(x, exponent=2.0)",
}


@pytest.mark.parametrize("call", WRITTEN_AS_IN_PYTORCH)
def test_arguments_are_read_and_written_as_in_pytorch(call):
    text = f"h = {call}\nloss = sum(h)"
    weights = {name: [1.0, 2.0] for name in ("weight", "bias") if re.search(rf"[ =]{name}\b[^=]", call)}
    graph = build_graph(text, {"x": TENSORS["x"]}, weights)
    assert write_graph_text(graph) == f"h = {WRITTEN_AS_IN_PYTORCH[call]}\nloss = sum(h)"
    assert build_graph(write_graph_text(graph), {"x": TENSORS["x"]}, weights).listed_nodes == graph.listed_nodes


@pytest.mark.parametrize("seed", range(40))
def test_text_of_a_random_graph_is_the_same_graph(seed):
    graph, leaves = draw_graph(seed)
    tensors = {name: leaf[0].tolist() for name, leaf in leaves.items()}
    text = write_graph_text(graph)
    from_nodes = build_graph(model_language.graph_to_dict(graph), tensors, {})
    from_text = build_graph(text, tensors, {})
    assert from_text.listed_nodes == from_nodes.listed_nodes
    assert model_language.graph_to_dict(from_text) == model_language.graph_to_dict(from_nodes)
    assert write_graph_text(from_text) == text


@pytest.mark.parametrize("name", PRESETS)
def test_text_of_a_preset_is_the_same_graph(name):
    request = PRESETS[name].example_request
    graph = model_language.build_graph(model_language.parse_check_request(request))
    again = model_language.build_graph(model_language.parse_check_request(request | {"model": write_graph_text(graph)}))
    assert again.listed_nodes == graph.listed_nodes


class _OneNodeGraph:
    """The node of an op's example, as the writers see it."""

    def __init__(self, op_type, example):
        names = tuple(None if shape is None else f"a b{i}" for i, shape in enumerate(example.input_shapes))
        self.listed_nodes = [Node("loss", op_type(**example.attributes), names)]
        self.nodes = self.listed_nodes
        self._shapes = example.input_shapes

    def get_operand_shapes(self, node):
        return self._shapes


@pytest.mark.parametrize("name", OP_REGISTRY)
def test_every_example_of_every_op_is_written_and_read(name):
    for example in OP_REGISTRY[name].examples:
        graph = _OneNodeGraph(OP_REGISTRY[name], example)
        (read,) = expand_model_text({"model": write_graph_text(graph)})["model"]
        (written,) = model_language.graph_to_dict(graph)
        attributes = {key: value for key, value in written.items() if key not in ("name", "op", "inputs")}
        parsed = model_language.NODE_TYPES[name](**read)
        assert {key: getattr(parsed, key) for key in attributes} == attributes
        given = [
            operand for value in read["inputs"].values() for operand in (value if type(value) is list else [value])
        ]
        assert given == [operand for operand in graph.listed_nodes[0].operands if operand is not None]


NOT_AMONG_OVERRIDES = {
    *("half_squared_error", "hardsigmoid", "hardswish", "sigmoid", "slice", "solve", "tanh"),
    # Ops of kernels and recurrences that PyTorch has none of.
    *("add_rms_norm", "alibi_bias", "attention", "causal_conv1d", "fake_quantize", "geglu", "linear_scan"),
    *("rotary_embedding", "selective_scan", "swiglu", "windowed_attention"),
    # Their weights are a list in PyTorch.
    *("gru", "lstm", "rnn_relu", "rnn_tanh"),
}
CORRECTED_OVERRIDES = {
    **{name: ["A"] for name in ("det", "inv", "logdet", "slogdet", "svdvals", "eigvalsh")},  # as those of torch.linalg
    "cholesky": ["A", "upper"],
    "matrix_norm": ["A", "ord", "dim", "keepdim"],
    "solve_triangular": ["A", "B", "upper", "left", "unitriangular"],
    "diag_embed": ["input", "offset", "dim1", "dim2"],
    "permute": ["input", "dims"],
    "polygamma": ["n", "input"],  # torch.overrides has them in the order of the method
    "argmax": ["input", "dim", "keepdim"],
    "argmin": ["input", "dim", "keepdim"],
    "max": ["input", "dim", "keepdim"],
    "median": ["input", "dim", "keepdim"],
    "min": ["input", "dim", "keepdim"],
    "topk": ["input", "k", "dim", "largest", "sorted"],
    "repeat": ["input", "repeats"],
    "repeat_interleave": ["input", "repeats", "dim"],
    "max_pool3d": ["input", "kernel_size", "stride", "padding", "dilation", "ceil_mode"],
}
"""Parameters by PyTorch's documentation, where its overrides list others."""
NAMES_IN_PYTORCH = {"self": "input", "tensor": "input", "names": "dim", "x": "input", "y": "other", "correction": "dim"}


def _list_parameters_of_pytorch(name):
    """The parameters of PyTorch's function, as its overrides list them; None where they do not."""
    functions = (getattr(module, name, None) for module in (torch.nn.functional, torch, torch.linalg, torch.Tensor))
    override = get_testing_overrides().get(next(filter(None, functions)))
    return None if override is None else list(inspect.signature(override).parameters)


@pytest.mark.parametrize("name", sorted(OP_REGISTRY.keys() - NOT_AMONG_OVERRIDES))
def test_arguments_without_names_are_in_the_order_of_pytorch(name):
    mine, theirs = list_positional_parameters(OP_REGISTRY[name]), _list_parameters_of_pytorch(name)
    assert theirs is not None
    known = {*mine, "input", "other", "dim"}
    renamed = [known_name if (known_name := NAMES_IN_PYTORCH.get(each)) in known else each for each in theirs]
    if name in ("amax", "mean", "sum"):  # the overrides list but the first parameters
        renamed += ["keepdim"]
    renamed = CORRECTED_OVERRIDES.get(name, renamed)
    assert list(mine) == renamed[: len(mine)]


ERRORS = {
    "loss = conv(x, w)": "line 1, column 8: unknown op 'conv'",
    "loss = nn.GELU(x)": "line 1, column 8: unknown op 'nn.GELU'; did you mean 'gelu'?",
    "loss = sum(x, axis=1)": "line 1, column 15: unknown field 'axis'; did you mean 'dim'?",
    "loss = sum(x, dim=1.5)": "line 1, column 15: must be an integer, or must be a list; 1.5 was given",
    "loss = sum(x, dim=0, 1)": "line 1, column 22: an argument without a name stands behind one with a name",
    "loss = sum(x, 0, True, 4)": "column 24: sum takes input, dim, keepdim without names; give this one as",
    "loss = mse_loss(x, y, 'sum')": "column 23: mse_loss takes input, target without names",
    "loss = sum('x')": "line 1, column 12: write the name of a tensor without quotes: x",
    "loss = sum(True)": "line 1, column 12: input of sum takes the name of a tensor, or a number",
    "loss = cat([[x]])": "tensors of cat takes the name of a tensor, or a number",
    "loss = sum([x])": "line 1, column 12: input of sum is one tensor, not a list",
    "loss = gelu(x, approximate=tanh)": 'approximate of gelu takes no tensor; a text stands in quotes, as "tanh"',
    "loss = sum(x, y)": "line 1, column 15: dim of sum takes no tensor",
    "loss = sum(x, dim=[1, y])": "line 1, column 15: dim of sum takes no tensor",
    "loss = conv2d(x, w, kernel=w)": "conv2d has no input 'kernel'; it takes input, weight, bias",
    "loss = sum(x, input=x)": "line 1, column 15: input is given twice",
    "loss = sum(x, op=1)": "line 1, column 15: unknown parameter 'op' of sum",
    "loss = sum()": "line 1, column 8: sum takes input; input is missing",
    "loss = sum(None)": "line 1, column 8: sum takes input; input is missing",
    "loss = sum(q)": "line 1, column 8: node 'loss' reads 'q', which is no tensor, weight or node here",
    "h = linear(x, w)\nh = tanh(h)\nloss = sum(h)": "line 2, column 5: two nodes are named 'h'",
    "h = tanh(b)\nh2 = dot(h, w)\nloss = sum(h2)": "line 2, column 6: unknown op 'dot'; did you mean 'matmul'?",
    "h = matmul(x, b)\nh2 = matmul(h, h)\nh3 = matmul(h2, h)\nloss = sum(h3)": "line 3, column 6: node 'h3' (matmul",
    "loss = tanh(x)": "line 1, column 8: the last node, 'loss', is the loss and must have one element",
    "# no line = none": "must have at least 1 item",
    f"{'n' * 201} = sum(x)": "line 1, column 1: must not be longer than 200 characters",
    "loss = sum(1e400)": "line 1, column 8: inputs must be",
    "`` = sum(x)": "line 1, column 1: must not be empty",
}


@pytest.mark.parametrize("text", ERRORS)
def test_error_names_the_line_and_the_column(text):
    fields = {"tensors": {name: TENSORS[name] for name in "xy" if name in text} or {"x": TENSORS["x"]}}
    fields["weights"] = {name: WEIGHTS[name] for name in "wb" if re.search(rf"\b{name}[,)]", text)}
    (error,) = {detail for pointer, detail in collect_errors(text, **fields) if pointer == "/model"}
    assert ERRORS[text] in error


def test_error_of_a_bare_list_is_at_its_node():
    nodes = [NODES[0], {"name": "loss", "op": "sum", "inputs": ["z"], "axis": 1}]
    assert collect_errors(nodes)[0][0] == "/model/1/axis"
    assert collect_errors([NODES[0], {"name": "loss", "op": "sum", "inputs": ["q"]}])[0][0] == "/model/1"
    assert collect_errors([NODES[0], {"name": "loss", "op": "sum", "inputs": ["z", "z"]}])[0][0] == "/model/1/inputs"
    assert collect_errors([]) == [("/model", "must have at least 1 item; a list was given")]


def test_unread_tensor_is_still_reported_at_the_tensor():
    assert collect_errors("loss = sum(x)")[0][0] == "/tensors/y"


@pytest.mark.parametrize("model", ["loss sum(x)", "", "h\nloss"])
def test_name_of_no_preset_explains_the_form_of_a_text(model):
    ((pointer, detail),) = collect_errors(model)
    assert pointer == "/model"
    assert "a text has a node a line, such as loss = sum(x)" in detail


def test_text_is_limited_as_nodes_are():
    limits = Limits(nodes=3)
    body = {"tensors": {"x": 1.0}, "weights": {}, "with_respect_to": ["x"]}

    def collect(text):
        with pytest.raises(InvalidRequestError) as error:
            parse_problem(body | {"model": text}, limits, model_language.parse_check_request)
        return [(entry["pointer"], entry["detail"]) for entry in error.value.errors]

    chain = ["h0 = tanh(x)", *(f"h{i} = tanh(h{i - 1})" for i in range(1, 4))]
    parse_problem(body | {"model": "\n#\n".join(chain[:3])}, limits, model_language.parse_check_request)
    assert collect("\n".join(chain)) == [("/model", "4 are more than the 3 that are taken")]
    assert collect("=\n" * 31) == [("/model", "the text has 32 lines; at most 30 are taken")]
    assert "has 123 entries; at most 120" in collect("h = cat([" + "x, " * 115 + "])")[0][1]


LINES = st.lists(
    st.builds(
        "{} = {}({})".format,
        st.sampled_from(["a", "b", "loss", "x", "`a b`", "a.0"]),
        st.sampled_from(["sum", "tanh", "cat", "linear", "einsum", "F.gelu", "view", "where", "clamp", "pow"]),
        st.lists(
            st.sampled_from(
                ["x", "a", "w", "None", "True", "1", "-1", "1e999", "9" * 40, "[x, a]", "[]", "[1]", "'ij->i'", "dim=0",
                 "dim=None", "keepdim=True", "dim=[0,[1]]", "input=x", "exponent=x", "min=0.5", "inputs=1", "a.0"]
            ),
            max_size=4,
        ).map(", ".join),
    ),
    min_size=1,
    max_size=4,
).map("\n".join)  # fmt: skip


@given(LINES)
def test_text_is_a_graph_or_refused_with_places(text):
    body = {"tensors": {"x": TENSORS["x"]}, "weights": {"w": WEIGHTS["w"]}, "model": text}
    try:
        _, problem = parse_problem(body, Limits(), model_language.parse_check_request)
    except InvalidRequestError as error:
        pointers = {entry["pointer"] for entry in error.errors}
        assert pointers <= {"/model", "/tensors/x", "/weights/w"}
    else:
        assert isinstance(problem.graph, Graph)
