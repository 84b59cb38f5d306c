"""Graphs within nodes: a branch that a constant chooses, and repetitions whose number is constant."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx

from service.checks.importing.graph_writer import GraphWriter
from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, normalize_axis
from service.checks.importing.scope import NodePlace, Slot
from service.checks.importing.values import MISSING, Known, Missing, Value


class GraphRunner(Protocol):
    """The part of an interpreter that runs a graph within a node."""

    writer: GraphWriter

    def run_graph(self, graph: onnx.GraphProto, inputs: Sequence[Slot], place: NodePlace) -> list[Slot]:
        """Run a graph, and return its outputs."""
        ...


ControlHandler = Callable[[GraphRunner, NodeCall, NodePlace], Sequence[Slot]]


def _run_if(runner: GraphRunner, call: NodeCall, place: NodePlace) -> Sequence[Slot]:
    condition = call.get_constant(0, "condition")
    if condition is None or condition.size != 1:
        raise OperatorUseError("needs one constant truth value as its condition")
    branch = call.attributes["then_branch" if condition.reshape(()) else "else_branch"]
    return runner.run_graph(branch, [], place)


def _run_loop(runner: GraphRunner, call: NodeCall, place: NodePlace) -> Sequence[Slot]:
    count, condition = call.get_constant(0, "number of repetitions"), call.get_constant(1, "condition")
    if count is None and condition is None:
        raise OperatorUseError("has neither a number of repetitions nor a condition: it never ends")
    state: list[Slot] = list(call.inputs[2:])
    stacks: list[list[Value]] = [[] for _ in range(call.output_count - len(state))]
    index, is_going = 0, condition is None or bool(condition.all())
    while is_going and (count is None or index < int(count.reshape(()))):
        number = Known(np.array(index, dtype=np.int64), "iteration")
        outputs = runner.run_graph(call.attributes["body"], [number, Known(np.array(True), "condition"), *state], place)
        if any(isinstance(output, Missing) for output in outputs):
            return [MISSING] * call.output_count
        is_going = _read_condition(outputs[0])
        state = outputs[1 : 1 + len(state)]
        _append(stacks, outputs[1 + len(state) :])
        index += 1
    return [*state, *(_stack(call, values, 0) for values in stacks)]


def _read_condition(value: Slot) -> bool:
    if not isinstance(value, Known) or value.origin == "drawn" or value.array.size != 1:
        raise OperatorUseError("ends by a condition that depends on data; only constant ones are taken")
    return bool(value.array.reshape(()))


def _append(stacks: Sequence[list[Value]], outputs: Sequence[Slot]) -> None:
    if len(stacks) != len(outputs):
        raise OperatorUseError("has another number of outputs than its graph")
    for stack, output in zip(stacks, outputs, strict=True):
        assert output is not None
        assert not isinstance(output, Missing)
        stack.append(output)


def _stack(call: NodeCall, values: Sequence[Value], axis: int) -> Value:
    """Return the values of all repetitions along a new axis."""
    if not values:
        raise OperatorUseError("collects the outputs of no repetition; that is not taken")
    arrays = [value.array for value in values if isinstance(value, Known) and value.origin == "constant"]
    if len(arrays) == len(values):
        return Known(np.stack(arrays, axis), "stacked")
    return call.emit("stack", [values], dim=normalize_axis(axis, len(values[0].shape) + 1))


def _run_scan(runner: GraphRunner, call: NodeCall, place: NodePlace) -> Sequence[Slot]:
    if call.opset < 9:
        raise OperatorUseError("of an opset below 9 is not taken")
    scanned = call.attributes["num_scan_inputs"]
    if not 0 < scanned <= len(call.inputs):
        raise OperatorUseError("has another number of inputs than num_scan_inputs says")
    state: list[Slot] = list(call.inputs[:-scanned])
    sequences = [call.get(position) for position in range(len(state), len(call.inputs))]
    axes = [
        normalize_axis(axis, len(value.shape))
        for axis, value in zip(_get_list(call, "scan_input_axes", scanned), sequences, strict=True)
    ]
    lengths = {value.shape[axis] for value, axis in zip(sequences, axes, strict=True)}
    if len(lengths) != 1:
        raise OperatorUseError(f"scans inputs of different lengths {sorted(lengths)}")
    (length,) = lengths
    backwards = _get_list(call, "scan_input_directions", scanned)
    stacks: list[list[Value]] = [[] for _ in range(call.output_count - len(state))]
    for step in range(length):
        slices = [
            take_slice(call, value, axis, length - 1 - step if is_backward else step)
            for value, axis, is_backward in zip(sequences, axes, backwards, strict=True)
        ]
        outputs = runner.run_graph(call.attributes["body"], [*state, *slices], place)
        if any(isinstance(output, Missing) for output in outputs):
            return [MISSING] * call.output_count
        state = outputs[: len(state)]
        _append(stacks, outputs[len(state) :])
    out_axes, reversals = (
        _get_list(call, name, len(stacks)) for name in ("scan_output_axes", "scan_output_directions")
    )
    return [
        *state,
        *(
            _stack(call, values[::-1] if is_backward else values, axis)
            for values, axis, is_backward in zip(stacks, out_axes, reversals, strict=True)
        ),
    ]


def _get_list(call: NodeCall, name: str, count: int) -> list[int]:
    values = call.attributes.get(name) or [0] * count
    if len(values) != count:
        raise OperatorUseError(f"has {len(values)} entries in {name}; it must have {count}")
    return values


def take_slice(call: NodeCall, value: Value, axis: int, index: int) -> Value:
    """Return the part of a value at an index of an axis, without that axis."""
    if isinstance(value, Known) and not value.is_float:
        return Known(np.take(value.array, index, axis), value.name, origin=value.origin)
    part = call.emit("narrow", [value], dim=axis, start=index, length=1)
    return call.emit("reshape", [part], shape=[*value.shape[:axis], *value.shape[axis + 1 :]])


CONTROL_OPERATORS: Mapping[str, ControlHandler] = {"If": _run_if, "Loop": _run_loop, "Scan": _run_scan}
