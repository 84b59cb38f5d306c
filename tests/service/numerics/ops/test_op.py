import dataclasses

import numpy as np
import pytest

from service.numerics.core.batching import Array
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.conv import Conv2d
from service.numerics.ops.op import Gradients, Op, OpBug, Slot, declare_bug, register_op
from tests.op_graphs import build_op_graph


class Doubled(Op):
    """y = 2 x, all of shape (...): dL/dx = 2 g."""

    inputs = ("input", "bias?")

    def infer_output_shape(self, input, bias):
        return input

    def forward(self, input, bias):
        return 2 * input

    def backward(self, gradient: Array, output: Array, input: Array, bias: Array) -> Gradients:
        return 2 * gradient, None

    def torch_forward(self, torch, input, bias):
        return 2 * input


@pytest.fixture
def doubled_op():
    yield register_op("doubled")(type("Doubled", (Doubled,), {}))
    del OP_REGISTRY["doubled"]


def test_an_op_is_registered_under_its_name_with_its_slots(doubled_op):
    assert OP_REGISTRY["doubled"] is doubled_op
    assert doubled_op.name == "doubled"
    assert [slot.name for slot in doubled_op.slots] == ["input", "bias"]
    assert [slot.optional for slot in doubled_op.slots] == [False, True]


@pytest.mark.parametrize(
    ("text", "slot"),
    [
        ("input", Slot("input", optional=False, variadic=False, kinds=("float",))),
        ("bias?", Slot("bias", optional=True, variadic=False, kinds=("float",))),
        ("tensors*", Slot("tensors", optional=False, variadic=True, kinds=("float",))),
        ("index:index", Slot("index", optional=False, variadic=False, kinds=("index",))),
        ("mask?:float|bool", Slot("mask", optional=True, variadic=False, kinds=("float", "bool"))),
    ],
)
def test_slot_is_parsed_from_its_short_form(text, slot):
    assert Slot.parse(text) == slot


def test_only_the_last_slot_may_take_several():
    with pytest.raises(ValueError, match="only the last slot"):
        register_op("doubled")(type("Doubled", (Doubled,), {"inputs": ("tensors*", "other")}))
    assert "doubled" not in OP_REGISTRY


def test_pieces_are_for_ops_that_have_them(doubled_op):
    assert doubled_op().select_branch(np.zeros(3), None) is None
    with pytest.raises(NotImplementedError, match="one piece"):
        doubled_op().forward_on_branch(np.zeros(3), np.zeros(3), None)


def test_registering_a_taken_name_is_refused(doubled_op):
    with pytest.raises(ValueError, match="an op named 'doubled' is registered already"):
        register_op("doubled")(type("Another", (Doubled,), {}))


def test_ops_of_the_same_attributes_are_equal_and_cannot_be_changed():
    flatten = OP_REGISTRY["flatten"]
    assert flatten(start_dim=1) == flatten(start_dim=1) != flatten()
    with pytest.raises(AttributeError):
        flatten().start_dim = 2


def test_op_defaults_are_safe(doubled_op):
    """Rounding by default: the op on absolute values, as if all were summed into each."""
    x = np.array([[1.0, -2.0, 3.0]])
    output = doubled_op().forward(x, None)
    rounding = doubled_op().estimate_forward_rounding(output, x, None)
    np.testing.assert_array_equal(rounding.magnitude, [[2, 4, 6]])
    assert rounding.term_count == 3
    by_input, by_bias = doubled_op().estimate_backward_rounding(-x, output, x, None)
    np.testing.assert_array_equal(by_input.magnitude, [[2, 4, 6]])
    assert by_input.term_count == 3
    assert by_bias is None
    np.testing.assert_array_equal(doubled_op().split_terms(output, x, None), output)
    assert doubled_op().estimate_terms_rounding(output) is None
    assert doubled_op().estimate_cost((3,), (3,), None) == (3, 3, 1)


@pytest.mark.parametrize("name", sorted(OP_REGISTRY))
def test_wanted_gradients_are_those_of_the_backward_pass(name):
    for case in OP_REGISTRY[name].examples:
        graph, leaves = build_op_graph(OP_REGISTRY[name], case)
        node, values = graph.nodes[0], graph.forward(leaves)
        inputs, output = graph.get_operand_arrays(node, values), values[node.name]
        gradient = np.random.default_rng(1).normal(size=output.shape)
        everything = node.op.backward(gradient, output, *inputs)
        for position in range(len(inputs)):
            wanted = [index == position for index in range(len(inputs))]
            some = node.op.backward_for(wanted, gradient, output, *inputs)
            for index, (part, whole) in enumerate(zip(some, everything, strict=True)):
                if part is not None or index == position:
                    np.testing.assert_array_equal(part, whole)


def test_ops_without_attributes_are_equal_by_their_type() -> None:
    """They share the methods of `Op`, and are written and hashed as themselves."""
    tanh, exp = OP_REGISTRY["tanh"], OP_REGISTRY["exp"]
    assert "__init__" not in vars(tanh)
    assert (tanh() == tanh(), tanh() == exp(), len({tanh(), tanh(), exp()})) == (True, False, 2)
    assert repr(tanh()) == "Tanh()"
    with pytest.raises(TypeError, match="alpha"):
        tanh(alpha=1.0)


def test_ops_with_attributes_are_equal_by_their_values() -> None:
    leaky = OP_REGISTRY["leaky_relu"]
    assert (leaky(negative_slope=0.1) == leaky(negative_slope=0.1), leaky() == leaky(negative_slope=0.1)) == (
        True,
        False,
    )


@pytest.mark.parametrize("name", ["tanh", "matmul", "flatten", "gelu", "mse_loss", "sort"])
def test_ops_keep_their_attributes(name, doubled_op):
    """Those without attributes of their own are no dataclasses of their own."""
    for op in (OP_REGISTRY[name](), doubled_op(), Doubled()):
        for change in (lambda op=op: setattr(op, "name", "sigmoid"), lambda op=op: setattr(op, "other", 1)):
            with pytest.raises(dataclasses.FrozenInstanceError):
                change()
        with pytest.raises(dataclasses.FrozenInstanceError):
            del op.name


class BuggyTwice(Doubled):
    """An op whose generated bug has the key of a declared one."""

    @declare_bug("the factor was left out")
    def undoubled(self, gradient, output, input, bias):
        return gradient, None

    @classmethod
    def generate_bugs(cls):
        return {"undoubled": OpBug("undoubled", cls.undoubled, "the factor was left out again", lambda shapes: True)}


def test_no_generated_bug_takes_the_place_of_a_declared_one(doubled_op):
    assert [*doubled_op.bugs] == []
    buggy = register_op("buggy_twice")(BuggyTwice)
    del OP_REGISTRY["buggy_twice"]
    with pytest.raises(TypeError, match="BuggyTwice has two bugs by each of the keys \\['undoubled'\\]"):
        len(buggy.bugs)
    assert "as a convolution in mathematics reads it" in Conv2d.bugs["kernel_flipped"].explanation
