"""Values are found by name, in the graph or in those around it."""

import pytest

from service.checks.importing.import_errors import ModelFileError, OperatorUseError
from service.checks.importing.scope import NodePlace, ValueScope
from service.checks.importing.values import Symbol


def test_a_graph_inside_a_node_knows_the_values_around_it():
    outer = ValueScope()
    outer.define("x", Symbol("outer", ()))
    inner = ValueScope(parent=outer)
    assert inner.find("x") is outer.find("x")
    inner.define("x", Symbol("inner", ()))
    assert inner.find("x") is not outer.find("x")
    with pytest.raises(ModelFileError, match="two values are named 'x'"):
        inner.define("x", None)
    with pytest.raises(OperatorUseError, match="reads 'z'"):
        inner.find("z")


def test_a_value_of_a_function_has_the_name_of_the_call_before_its_own():
    place = NodePlace(ValueScope(), 21)
    assert place.make_name("a") == "a"
    assert NodePlace(ValueScope(), 21, call_name="/norm/y").make_name("a") == "/norm/y/a"
