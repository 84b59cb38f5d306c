"""Conversions of recurrent layers over a sequence: one node for each result."""

from collections.abc import Sequence
from typing import Any

from gradcheckd.torch.aten_nodes.graph_builder import UnsupportedError
from gradcheckd.torch.aten_nodes.operator_call import Converted, OperatorCall, is_graph_tensor, register_converter

_OUTPUTS = ("output", "h_n", "c_n")


@register_converter("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
def _convert_recurrence(call: OperatorCall) -> Converted:
    """Convert a layer; dropout between layers is refused before, where it draws."""
    directions = call["num_layers"] * (2 if call["bidirectional"] else 1)
    if len(call["params"]) != directions * (4 if call["has_biases"] else 2):
        raise UnsupportedError("projections of its states")
    states: Sequence[Any] = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    op = call.operator_name.removeprefix("aten.")
    inputs = [_name_tensor(call, value) for value in (call["input"], *states, *call["params"])]
    options = {
        "has_biases": call["has_biases"],
        "num_layers": call["num_layers"],
        "bidirectional": call["bidirectional"],
        "batch_first": call["batch_first"],
    }
    return [call.add_node(op, *inputs, output=output, **options) for output in _OUTPUTS[: len(call.result)]]


def _name_tensor(call: OperatorCall, value: Any) -> Any:
    return call.name_input(value) if is_graph_tensor(value) else call.add_constant(value, "float")
