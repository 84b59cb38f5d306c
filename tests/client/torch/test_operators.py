"""Each conversion of an operator of ATen gives the values and gradients of torch."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gradcheckd
from gradcheckd.torch.aten_nodes.fixed_values import MARGINS
from gradcheckd.torch.aten_nodes.graph_builder import GraphBuilder, GraphTensor
from gradcheckd.torch.aten_nodes.operator_call import CONVERTERS, OperatorCall, find_converter
from gradcheckd.torch.export_internals import aten, pytree
from gradcheckd.torch.operator_evaluation import bind_arguments
from tests.client.torch import core_operators
from tests.client.torch.operator_cases import CASES, OperatorCase, Positive

SCALE = 1.001


def find_overload(name: str) -> Any:
    packet, overload = name.split(".")
    return getattr(getattr(aten, packet), overload)


def convert(case: OperatorCase) -> tuple[GraphBuilder, dict[str, Tensor], list[tuple[str, Tensor]]]:
    """Return the graph of a case, its judged tensors, and each result that has a node, by name."""
    builder, judged = GraphBuilder(), {}

    def wrap(value: Any) -> Any:
        if isinstance(value, Positive):
            name = builder.add_node("mask", "gt", [wrap(value.numbers).name, 0.0], {})
            builder.mark_discrete(name)
            return GraphTensor(name, value.numbers > 0)
        if not (isinstance(value, Tensor) and value.requires_grad):
            return value
        name = next((name for name, tensor in judged.items() if tensor is value), None)
        if name is None:
            name = builder.add_tensor(f"x{len(judged)}", value.detach())
            judged[name] = value
        return GraphTensor(name, value.detach())

    operator = find_overload(case.overload)
    args, kwargs = pytree.tree_map(compute_truths, (case.args, case.kwargs))
    result = (case.twin or operator)(*args, **kwargs)
    arguments = bind_arguments(operator, *pytree.tree_map(wrap, (case.args, case.kwargs)))
    call = OperatorCall(operator, builder, "y", arguments, pytree.tree_map(detach, result))
    converter = find_converter(operator)
    assert converter is not None
    names = converter(call)
    results = [(names, result)] if isinstance(names, str) else list(zip(names, result, strict=True))
    return builder, judged, [(name, part) for name, part in results if name is not None]


def compute_truths(value: Any) -> Any:
    return value.numbers > 0 if isinstance(value, Positive) else value


def detach(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def add_as_floats(builder: GraphBuilder, judged: dict[str, Tensor], name: str, part: Tensor) -> tuple[str, Tensor]:
    """Return integers or truths as floats: the sum of a judged tensor where they are those of torch, else 0."""
    leaf, tensor = next(iter(judged.items()))
    total = builder.add_node("total", "sum", [leaf], {})
    is_same = builder.add_node("same", "eq", [name, builder.add_tensor("expected", part.double().contiguous())], {})
    for discrete in (name, is_same):
        builder.mark_discrete(discrete)
    return builder.add_node("chosen", "where", [is_same, total, 0.0], {}), tensor.sum().expand(part.shape)


def check_case(case: OperatorCase, scale: float) -> gradcheckd.Report:
    """Check torch's own gradients of all results of a case, times a factor."""
    builder, judged, results = convert(case)
    generator = torch.Generator().manual_seed(0)
    terms, weighed = [], []
    results = [
        (name, part) if part.is_floating_point() else add_as_floats(builder, judged, name, part)
        for name, part in results
    ]
    if not any(part.requires_grad for _, part in results):
        # Truths that choose constants have no gradient to judge: that of the first tensor is 1.
        results.append(next(iter(judged.items())))
    for number, (name, part) in enumerate(results):
        upstream = torch.randn(part.shape, generator=generator, dtype=torch.float64)
        weighed.append((part, upstream))
        product = builder.add_node(f"p{number}", "mul", [name, builder.add_tensor(f"c{number}", upstream)], {})
        terms.append(builder.add_node(f"s{number}", "sum", [product], {}))
    loss = terms[0]
    for term in terms[1:]:
        loss = builder.add_node("loss", "add", [loss, term], {})
    nodes, needed = builder.list_reachable(loss)
    _, differentiable = builder.list_reachable(loss, by_gradient=True)
    judged = {name: tensor for name, tensor in judged.items() if name in differentiable}
    outputs, upstream = zip(*(pair for pair in weighed if pair[0].requires_grad), strict=True)
    gradients = torch.autograd.grad(outputs, list(judged.values()), upstream, materialize_grads=True)
    expected = sum(float((part.detach() * factor).sum()) for part, factor in weighed)
    report = gradcheckd.check(
        tensors={name: tensor for name, tensor in builder.tensors.items() if name in needed},
        weights={},
        model=nodes,
        candidate={name: scale * gradient for name, gradient in zip(judged, gradients, strict=True)},
    )
    assert report.loss.analytic == pytest.approx(expected, rel=1e-9, abs=1e-12)
    return report


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.overload)
def test_operator_has_values_and_gradients_of_torch(case: OperatorCase) -> None:
    report = check_case(case, 1.0)
    assert report.outcome == "pass", report.text()
    for name, routes in report.gradients.items():
        assert routes.candidate is not None
        np.testing.assert_allclose(routes.analytic, routes.candidate, rtol=case.rtol, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("case", CASES[::7], ids=lambda case: case.overload)
def test_wrong_gradient_of_an_operator_fails(case: OperatorCase) -> None:
    report = check_case(case, SCALE)
    # A number of elements has the gradient 0, and any multiple of it is right.
    is_zero = not any(np.any(routes.candidate) for routes in report.gradients.values())
    assert report.outcome == ("pass" if is_zero else "fail")


def test_every_conversion_has_a_case() -> None:
    covered = {f"aten.{case.overload}" for case in CASES}
    packets = {name.rpartition(".")[0] for name in covered}
    # Torch defines its other operators when it first calls them: a module has them in the tests of modules.
    own = {name for name in CONVERTERS if name.startswith("aten.")}
    assert {name for name in own if name not in covered | packets} == set()


def test_every_case_is_of_its_own_conversion() -> None:
    assert all(find_converter(find_overload(case.overload)) is not None for case in CASES)


def list_core_operators() -> set[str]:
    """Return all operators that torch itself tags as core."""
    # `dir` knows those alone that were called before.
    names = {schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")}
    packets = [getattr(aten, name.removeprefix("aten::"), None) for name in sorted(names)]
    packets = [packet for packet in packets if packet is not None]
    overloads = [getattr(packet, name) for packet in packets for name in packet.overloads()]
    return {str(overload) for overload in overloads if torch.Tag.core in overload.tags}


def find_unconverted(operators: set[str]) -> set[str]:
    known = CONVERTERS.keys() | MARGINS.keys()
    return {name for name in operators if name not in known and name.rpartition(".")[0] not in known}


def test_every_core_operator_is_converted_or_listed() -> None:
    """A version of torch with a new core operator fails here: add its conversion, or list it."""
    assert find_unconverted(list_core_operators()) == core_operators.NO_GRADIENT | core_operators.NOT_YET_CONVERTED
    assert set() == core_operators.NO_GRADIENT & core_operators.NOT_YET_CONVERTED


def test_new_core_operator_is_found() -> None:
    assert find_unconverted({"aten.made_up.default", "aten.tanh.default"}) == {"aten.made_up.default"}


def test_nodes_are_json() -> None:
    for case in CASES:
        json.dumps(convert(case)[0].nodes)
