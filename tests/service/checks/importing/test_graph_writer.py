"""Nodes are written within the limits, and those that the loss needs alone."""

import numpy as np
import pytest

from service.checks.common.limits import Limits
from service.checks.importing.graph_writer import GraphWriter, flatten_operands, to_number
from service.checks.importing.import_errors import LimitError, OperatorUseError
from service.checks.importing.values import Known, Symbol

pytestmark = pytest.mark.covers_by_cases


def test_only_what_the_loss_needs_is_written():
    writer = GraphWriter(Limits())
    weight = Known(np.ones(3), "w", origin="weight")
    used = writer.emit("exp", [weight])
    writer.emit("sin", [Known(np.ones(4), "unused", origin="weight")])
    parts = writer.finish(writer.emit("sum", [used]))
    assert [entry["op"] for entry in parts.nodes] == ["exp", "sum"]
    assert (list(parts.weights), list(parts.tensors)) == (["w"], [])


def test_a_constant_is_a_number_a_drawn_value_a_tensor():
    writer = GraphWriter(Limits())
    drawn = Known(np.ones(3), "x", origin="drawn")
    parts = writer.finish(writer.emit("mul", [drawn, Known(np.array(2.5), "c")]))
    assert parts.nodes[0]["inputs"] == ["x", 2.5]
    assert parts.drawn_names == ["x"]
    assert to_number(Known(np.array(2.5), "c", origin="weight")) is None


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({"nodes": 1}, LimitError, "more than 1 nodes"),
        ({"elements": 8}, LimitError, "more than 8 elements at once"),
        ({"names": 1}, LimitError, "more than 1 tensors"),
    ],
)
def test_the_limits_hold(limits, error, words):
    writer = GraphWriter(Limits(**limits))
    writer.emit("exp", [Known(np.ones(3), "w", origin="weight")])
    with pytest.raises(error, match=words):
        writer.emit("exp", [Known(np.ones(3), "w", origin="weight")])


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.array([np.inf]), "an infinity"), (np.ones(2), "takes"), (np.array([True]), "it gets truth values")],
)
def test_operands_that_no_node_takes_are_refused(array, words):
    with pytest.raises(OperatorUseError, match=words):
        GraphWriter(Limits()).emit("add", [Known(array, "w"), Symbol("x", (3,))])


def test_operands_of_several_slots_are_one_list():
    symbol = Symbol("x", ())
    assert flatten_operands([[symbol, 1.0], None, symbol]) == [symbol, 1.0, None, symbol]


def test_an_output_of_a_node_with_several_is_read_by_its_name():
    writer, weight = GraphWriter(Limits()), Known(np.arange(4.0), "top.values", origin="weight")
    writer.base_name = "top"
    outputs = writer.emit_several("topk", [weight], k=2, dim=0)
    assert (outputs["values"].shape, outputs["values"].kind, outputs["indices"].kind) == ((2,), "float", "index")
    chosen = writer.emit("index_select", [weight, outputs["indices"]], dim=0)
    loss = writer.emit("sum", [writer.emit("mul", [outputs["values"], chosen])])
    nodes = writer.finish(loss).nodes
    # A weight has the name of an output of a node named `top`.
    assert (nodes[0]["name"], nodes[2]["inputs"]) == ("top_2", ["top_2.values", nodes[1]["name"]])
    assert nodes[1]["inputs"] == ["top.values", "top_2.indices"]


def test_a_value_knows_the_part_of_it_that_is_shown():
    writer, shown = GraphWriter(Limits()), Known(np.array([True, False]), "shown")
    symbol = writer.emit("where", [shown, Known(np.ones(2), "w", origin="weight"), -1e30])
    assert not writer.has_low_scores
    assert writer.get_shown_part(symbol) is None
    writer.mark_hidden_parts(symbol, shown)
    assert writer.has_low_scores
    assert writer.get_shown_part(symbol) is shown
