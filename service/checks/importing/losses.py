"""The loss of an imported model: one number, made from its outputs."""

import math
from collections.abc import Sequence

import numpy as np

from service.checks.importing.graph_writer import GraphWriter
from service.checks.importing.import_errors import ModelFileError
from service.checks.importing.random_values import ValueSource
from service.checks.importing.values import Known, Symbol, Value


def build_loss(writer: GraphWriter, outputs: Sequence[tuple[str, Value]], source: ValueSource) -> tuple[Symbol, str]:
    """Return the loss and a description of it.

    One output of one element is the loss itself. Each of all others is multiplied by a random cotangent and summed, and
    the sums are added. Outputs that no derivative is taken of do not count: integers, constants, and those without
    elements.

    Raises
    ------
    ModelFileError
        No output depends on an input of floats or on a weight.
    """
    counted = [
        (name, value)
        for name, value in outputs
        if value.is_float and not _is_constant(value) and math.prod(value.shape)
    ]
    if not counted:
        raise ModelFileError(
            "no output with elements depends on an input of floats or on a weight: there is nothing to differentiate"
        )
    if len(counted) == 1 and _has_one_element(counted[0][1]):
        name, value = counted[0]
        return _make_node(writer, name, value), f"the loss is the output {name!r:.80}"
    total: Symbol | None = None
    for name, value in counted:
        term = _contract(writer, name, value, source)
        writer.base_name = "loss"
        total = term if total is None else writer.emit("add", [total, term])
    assert total is not None
    total.name = "loss"
    names = ", ".join(repr(name)[:80] for name, _ in counted[:3]) + (", ..." if len(counted) > 3 else "")
    return total, f"the loss is the sum of {names} times random cotangents"


def _is_constant(value: Value) -> bool:
    return isinstance(value, Known) and value.origin == "constant"


def _has_one_element(value: Value) -> bool:
    return all(length == 1 for length in value.shape)


def _make_node(writer: GraphWriter, name: str, value: Value) -> Symbol:
    """Return a value as the result of a node: a loss is one."""
    if isinstance(value, Symbol):
        return value
    writer.base_name = name
    return writer.emit("reshape", [value], shape=[])


def _contract(writer: GraphWriter, name: str, value: Value, source: ValueSource) -> Symbol:
    """Return the sum of the products of an output and a random cotangent."""
    writer.base_name = name
    array = np.asarray(source.draw_floats(f"{name} cotangent", value.shape))
    cotangent = Known(array, f"{name}_cotangent", origin="constant")
    shown = writer.get_shown_part(value) if isinstance(value, Symbol) else None
    if shown is not None:
        # Minus infinity has no derivative, and the low score in its place would hide all others.
        value = writer.emit("where", [shown, value, 0.0])
    product = writer.emit("mul", [value, float(array) if array.ndim == 0 else cotangent])
    return writer.emit("sum", [product])
