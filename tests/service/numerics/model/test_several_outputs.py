"""Names, kinds and errors of nodes with several outputs, of integers and of truths."""

from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.graph import model_language
from service.checks.graph.check import check
from service.checks.graph.text_form import write_graph_text
from service.numerics.core.difference import Difference
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.rounding import estimate_rounding_allowances

X = [[0.3, -1.2, 0.8], [2.0, 0.1, -0.4]]
W = [[1.0, 0.5, -0.7], [0.2, 1.5, 0.9]]


def build(model: Any, **fields: Any) -> Graph:
    body = {"model": model, "tensors": {"x": X}, "weights": {"w": W}, **fields}
    return model_language.build_graph(model_language.parse_check_request(body))


def get_errors(model: Any, **fields: Any) -> list[tuple[str, str]]:
    body = {"model": model, "tensors": {"x": X}, "weights": {"w": W}, **fields}
    with pytest.raises(InvalidRequestError) as caught:
        check(body)
    return [(error["pointer"], error["detail"]) for error in caught.value.errors]


ERRORS = {
    "a = mul(x, w)\nloss = topk(a, 2)": "the loss; topk has several outputs: loss.values, loss.indices",
    "a = mul(x, w)\nt = topk(a, 2)\nloss = sum(t)": "'t', which has several outputs; name one: t.values, t.indices",
    "a = mul(x, w)\nt = topk(a, 2)\nloss = sum(t.value)": "'t.value', which is no output: t.values, t.indices",
    "a = mul(x, w)\nt = split(a, 1, 1)\nloss = sum(t.3)": "'t.3', which is no output: t.0, t.1, t.2",
    "a = mul(x, w)\nloss = sum(a.values)": "'a' (mul) has one output: read it as 'a'",
    "a = mul(x, w)\nt = max(a)\nloss = sum(t.values)": "'t' (max) has one output: read it as 't'",
    "a = mul(x, w)\nt = topk(a, 2)\nloss = sum(t.indices)": "takes floats as input; 't.indices' is of integers",
    "a = mul(x, w)\nm = gt(a, 0)\nb = mul(m, a)\nloss = sum(b)": "'m' is of truths (datatype BOOL); where(mask,",
    "a = mul(x, w)\nb = where(a, x, w)\nloss = sum(b)": "'a' is of floats; compare it, as ne(x, 0) does",
    "a = sum(w)\nb = sum(x)\nloss = gt(a, b)": "is the loss and must be of floats; gt returns truths (datatype BOOL)",
    "a = mul(x, w)\nt = topk(a, 4)\nloss = sum(t.values)": "takes a k from 1 to 3, the length of axis -1",
    "a = mul(x, w)\nt = unbind(t.0)\nloss = sum(t.0)": "the nodes form a cycle: t -> t",
}


@pytest.mark.parametrize("model", ERRORS)
def test_errors_say_what_is_wrong_and_how_to_mend_it(model: str) -> None:
    errors = get_errors(model)
    assert [pointer for pointer, _ in errors] == ["/model"] * len(errors)
    assert any(ERRORS[model] in detail for _, detail in errors), errors


def test_a_name_of_its_own_may_not_be_that_of_an_output() -> None:
    text = "a = mul(x, w)\nt = sort(a)\n`t.values` = neg(a)\nb = gather(t.values, 1, t.indices)\nloss = sum(b)"
    ((pointer, detail),) = get_errors(text)
    assert pointer == "/model"
    assert "'t.values' is a name of its own and also that of an output of node 't'; give one of them" in detail
    text = "a = mul(x, w)\nt = sort(a)\nb = mul(t.values, a)\nc = gather(b, 1, t.indices)\nloss = sum(c)"
    leaf = get_errors(text, tensors={"x": X, "t.values": X})
    assert [pointer for pointer, _ in leaf] == ["/tensors/t.values"]
    # A name with a point that is no output stays a name.
    assert check({"model": "t.other = mul(x, w)\nt = sort(t.other)\nb = mul(t.values, t.other)\nloss = sum(b)",
                  "tensors": {"x": X}, "weights": {"w": W}})["outcome"] == "pass"  # fmt: skip


def test_tensors_without_a_gradient_are_refused() -> None:
    model = "i = argmax(w, 1, True)\ng = gather(x, 1, i)\nloss = sum(g)"
    text = "the loss depends on 'w' through integers or truths alone, through which no gradient flows: it is 0;"
    ((pointer, detail),) = get_errors(model)
    assert pointer == "/weights/w"
    assert text in detail
    ((pointer, detail),) = get_errors(model, with_respect_to=["w"])
    assert pointer == "/with_respect_to/0"
    assert text in detail
    ((pointer, detail),) = get_errors(model, with_respect_to=["i"])
    assert "this tensor is not of floats, and has no gradient; name another: 'x', 'g'" in detail
    assert check({"model": model, "tensors": {"w": W}, "weights": {"x": X}})["outcome"] == "pass"


POSITIONS = {
    "i = argmax(x, 1)\ne = embedding(i, w)\nloss = sum(e)": "takes an index from 0 to 1; 'i' may be 0 to 2",
    "s = sort(x)\ne = gather(w, 0, s.indices)\nloss = sum(e)": "takes an index from 0 to 1; 's.indices' may be 0 to 2",
    "c = cummax(x, 1)\ns = scatter(w, 1, c.indices, x)\nloss = sum(s)": "takes an index without repeats",
}


@pytest.mark.parametrize("model", POSITIONS)
def test_computed_positions_that_an_op_does_not_take_are_refused(model: str) -> None:
    ((pointer, detail),) = get_errors(model, tensors={"x": [[0.3, -1.2, 0.2], [2.0, 0.1, -0.4]]})
    assert pointer == "/model"
    assert detail.startswith("line 2, column 5: node ")
    assert POSITIONS[model] in detail


@pytest.mark.parametrize(
    "model",
    [
        "i = argmax(x, 0)\nloss = cross_entropy(v, i)",
        "s = sort(x)\ne = scatter(v, 1, s.indices, x)\np = mul(e, v)\nloss = sum(p)",
        "s = cummax(x, 1)\ne = scatter_add(v, 1, s.indices, x)\np = mul(e, v)\nloss = sum(p)",
        "i = argmin(x, 1)\ne = index_select(v, 1, i)\np = square(e)\nloss = sum(p)",
    ],
)
def test_computed_positions_go_where_indices_go(model: str) -> None:
    weights = {"v": np.random.default_rng(0).normal(size=(3, 3)).tolist()}
    body = {"model": model, "tensors": {"x": np.random.default_rng(1).normal(size=(3, 3)).tolist()}, "weights": weights}
    assert check(body)["outcome"] == "pass"


METHODS: list[dict[str, Any]] = [
    {"projections": 3},
    {"projections": 2, "joint": False},
    {"method": "central"},
    {"method": "forward"},
    {"sample": 3},
    {"method": "auto"},
]


@pytest.mark.parametrize("spec", METHODS, ids=str)
def test_every_method_of_differences_holds_integers_and_truths(spec: dict[str, Any]) -> None:
    model = "a = mul(x, w)\nt = topk(a, 2)\nm = gt(t.values, 0.1)\nf = where(m, t.values, 0.0)\n"
    model += "g = gather(w, 1, t.indices)\np = mul(f, g)\nloss = sum(p)"
    body = {"model": model, "tensors": {"x": X}, "weights": {"w": W}, "finite_difference": spec}
    assert check(body)["outcome"] == "pass"
    wrong = np.full((2, 3), 0.7).tolist()
    assert check({**body, "candidate": {"w": wrong}})["outcome"] == "fail"


def test_outputs_have_gradients_of_their_own() -> None:
    report = check(
        {
            "model": "a = mul(x, w)\nt = topk(a, 2)\nq = square(t.values)\nloss = sum(q)",
            "tensors": {"x": X},
            "weights": {"w": W},
            "with_respect_to": ["t.values", "w"],
            "include": ["gradients", "intermediates"],
        }
    )
    assert report["outcome"] == "pass"
    values = report["intermediates"]["t.values"]
    np.testing.assert_allclose(report["gradients"]["t.values"]["analytic"], 2 * np.array(values["value"]), rtol=1e-14)
    assert list(report["intermediates"]) == ["a", "t.values", "q"]


def test_intermediates_have_integers_and_truths_with_gradients_of_0() -> None:
    report = check(
        {
            "model": "a = mul(x, w)\nt = sort(a)\nm = gt(t.values, 0)\nb = gather(w, 1, t.indices)\n"
            "c = where(m, b, 0.5)\nloss = sum(c)",
            "tensors": {"x": X},
            "weights": {"w": W},
            "include": ["intermediates"],
            "encoding": "b64",
        }
    )
    entries = report["intermediates"]
    assert {name: entry["value"]["datatype"] for name, entry in entries.items()} == {
        "a": "FP64", "t.values": "FP64", "t.indices": "INT64", "m": "BOOL", "b": "FP64", "c": "FP64",
    }  # fmt: skip
    assert entries["m"]["analytic"] == entries["m"]["autograd"]


def test_only_outputs_in_use_are_steps() -> None:
    graph = build("t = split(w, 1, 1)\nq = mul(t.0, t.2)\nloss = sum(q)", tensors={})
    assert [node.name for node in graph.nodes] == ["t.0", "t.2", "q", "loss"]
    assert graph.public_names == ["w", "t.0", "t.2", "q", "loss"]
    assert graph.result_names == ["t.0", "t.2", "q", "loss"]
    assert graph.describe_name("t.2") == "'t.2'"
    assert graph.find_position("t.2") == 0


class _ModelBuilder:
    """Nodes over tensors of one shape, with outputs, positions and masks that others read."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: list[dict[str, Any]] = []
        self.floats, self.indices, self.masks = ["x", "w", "v"], list[str](), list[str]()

    def add(self, op: str, *inputs: Any, **attributes: Any) -> str:
        self.nodes.append({"name": f"n{len(self.nodes)}", "op": op, "inputs": list(inputs), **attributes})
        return self.nodes[-1]["name"]

    def choose(self, *names: str) -> str:
        return str(self.generator.choice(names or self.floats))

    def draw_dim(self) -> int:
        return int(self.generator.integers(2))

    def add_sort(self) -> None:
        name = self.add("sort", self.choose(), dim=self.draw_dim(), descending=bool(self.draw_dim()))
        self.floats.append(f"{name}.values")
        self.indices.append(f"{name}.indices")

    def add_topk(self) -> None:
        name = self.add("topk", self.choose(), dim=self.draw_dim(), k=4)
        self.floats.append(self.add("mul", self.add("tanh", f"{name}.values"), self.choose()))

    def add_running_extreme(self) -> None:
        self.floats.append(f"{self.add(self.choose('cummax', 'cummin'), self.choose(), dim=self.draw_dim())}.values")

    def add_one_value(self) -> None:
        op = self.choose("max", "min", "median")
        name = self.add(op, self.choose(), dim=self.draw_dim(), keepdim=True)
        self.floats.append(self.add("add", f"{name}.values", self.choose()))

    def add_argsort(self) -> None:
        self.indices.append(self.add("argsort", self.choose(), dim=self.draw_dim()))

    def add_comparison(self) -> None:
        self.masks.append(self.add(self.choose("gt", "lt", "ge", "ne"), self.choose(), self.choose()))

    def add_gather(self) -> None:
        if self.indices:
            index = self.choose(*self.indices)
            self.floats.append(self.add("gather", self.choose(), index, dim=self.draw_dim()))

    def add_where(self) -> None:
        if self.masks:
            mask = self.add("logical_xor", self.choose(*self.masks), self.choose(*self.masks))
            self.floats.append(self.add("where", mask, self.choose(), self.choose()))

    def add_split(self) -> None:
        dim = self.draw_dim()
        name = self.add("split", self.choose(), split_size_or_sections=[3, 1], dim=dim)
        self.floats.append(self.add("cat", [f"{name}.1", f"{name}.0"], dim=dim))

    def list_read_names(self) -> set[str]:
        inputs: list[Any] = [name for node in self.nodes for name in node["inputs"]]
        lists: list[list[Any]] = [value if type(value) is list else [value] for value in inputs]
        return {name for names in lists for name in names}

    def join(self) -> None:
        """Add a loss that everything reaches."""
        read = self.list_read_names()
        joined = [self.floats[-1]]
        joined += [name for name in self.floats[:-1] if name not in read]
        joined += [self.add("gather", "w", name, dim=0) for name in self.indices if name not in read]
        joined += [self.add("where", name, "v", 0.0) for name in self.masks if name not in read]
        total = self.add("sum", joined[0])
        for name in joined[1:]:
            total = self.add("add", total, self.add("sum", name))
        self.add("mul", total, 1.0)


STEPS = (
    _ModelBuilder.add_sort,
    _ModelBuilder.add_topk,
    _ModelBuilder.add_running_extreme,
    _ModelBuilder.add_one_value,
    _ModelBuilder.add_argsort,
    _ModelBuilder.add_comparison,
    _ModelBuilder.add_gather,
    _ModelBuilder.add_where,
    _ModelBuilder.add_split,
)


def draw_model(seed: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Nodes, and the tensors that they read."""
    builder = _ModelBuilder(seed)
    tensors = {name: builder.generator.normal(size=(4, 4)).round(3).tolist() for name in ("x", "w", "v")}
    for number in builder.generator.integers(len(STEPS), size=14):
        STEPS[number](builder)
    builder.join()
    read = builder.list_read_names()
    return builder.nodes, {name: tensor for name, tensor in tensors.items() if name in read}


def is_kink(difference: Difference) -> Any:
    left = difference.left_derivative
    return np.False_ if left is None else ~np.isnan(left)


def make_leaves(tensors: dict[str, Any]) -> NamedArrays:
    return {name: np.array(tensor)[None] for name, tensor in tensors.items()}


@pytest.mark.parametrize("seed", range(25))
def test_random_models_agree_on_all_routes(seed: int) -> None:
    nodes, tensors = draw_model(seed)
    body = {"model": nodes, "tensors": {}, "weights": tensors}
    graph, leaves = model_language.build_graph(model_language.parse_check_request(body)), make_leaves(tensors)
    names = [name for name in graph.public_names if name in graph.names_with_gradient and name != graph.loss_name]
    by_hand = analytic.differentiate_analytically(graph, leaves).gradients
    by_torch = autograd.differentiate_by_torch(graph, leaves, names).gradients
    differences = finite_difference.differentiate_numerically(graph, leaves, names)
    rounding = estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0, names)
    examined = 0
    for name in names:
        certain = np.isfinite(rounding[name]) & ~is_kink(differences[name])
        examined += certain.sum()
        assert (np.abs(by_hand[name] - by_torch[name])[certain] <= 2 * rounding[name][certain]).all(), name
        error = np.abs(by_hand[name] - differences[name].value)
        assert (error[certain] <= (differences[name].error_bound + rounding[name])[certain]).all(), name
    assert examined > 0


@pytest.mark.parametrize("seed", range(10))
def test_tiles_choose_each_for_itself(seed: int) -> None:
    nodes, tensors = draw_model(seed)
    body = {"model": nodes, "tensors": {}, "weights": tensors}
    graph = model_language.build_graph(model_language.parse_check_request(body))
    generator = np.random.default_rng(seed)
    tiles = {
        name: np.concatenate([leaf, generator.normal(size=(3, 4, 4))]) for name, leaf in make_leaves(tensors).items()
    }
    together = graph.forward(tiles)[graph.loss_name]
    alone = [graph.forward({name: leaf[i : i + 1] for name, leaf in tiles.items()})[graph.loss_name] for i in range(4)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-13)


@pytest.mark.parametrize("seed", range(10))
def test_random_models_are_written_and_read_as_they_are(seed: int) -> None:
    nodes, tensors = draw_model(seed)
    body = {"model": nodes, "tensors": {}, "weights": tensors}
    graph = model_language.build_graph(model_language.parse_check_request(body))
    text = write_graph_text(graph)
    again = model_language.build_graph(model_language.parse_check_request({**body, "model": text}))
    assert write_graph_text(again) == text
    assert model_language.graph_to_dict(again) == model_language.graph_to_dict(graph)
