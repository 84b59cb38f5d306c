"""RNN, GRU and LSTM as one node of the service: the forms that PyTorch has."""

from collections.abc import Mapping, Sequence

import numpy as np

from service.checks.importing.operator_registry import NodeCall
from service.checks.importing.operators.shape import reshape
from service.checks.importing.values import Known, Value

_GATES = {"RNN": [0], "GRU": [1, 0, 2], "LSTM": [0, 2, 3, 1]}
"""Places of PyTorch's gates among those of ONNX: r, z, n among z, r, h, and i, f, g, o among i, o, f, c."""
_PLAIN_ACTIVATIONS: Mapping[tuple[str, ...], str] = {
    ("RNN", "tanh"): "rnn_tanh",
    ("RNN", "relu"): "rnn_relu",
    ("GRU", "sigmoid", "tanh"): "gru",
    ("LSTM", "sigmoid", "tanh", "tanh"): "lstm",
}
"""Op of the service by operator and activations."""
_MOST_STEPS = 256
"""Most steps of a layer of the service, of both directions together."""


def find_layer(call: NodeCall, activations: Sequence[Sequence[str]], steps: int) -> str | None:
    """Return the op of the service that is an operator; None if PyTorch has no such form.

    Parameters
    ----------
    call
        Call of the operator.
    activations
        Names of the activations, by direction.
    steps
        Number of steps.
    """
    names = {tuple(name.lower() for name in names) for names in activations}
    has_other_form = (
        call.attributes.get("clip")
        or len(names) != 1
        or (call.operator == "GRU" and not call.attributes.get("linear_before_reset"))
        or (call.operator == "LSTM" and call.get_optional(7) is not None)
        or not 1 <= steps * len(activations) <= _MOST_STEPS
    )
    return None if has_other_form else _PLAIN_ACTIVATIONS.get((call.operator, *names.pop()))


def run_layer(call: NodeCall, op_name: str, value: Value, directions: Sequence[bool]) -> list[Value]:
    """Return the states of all steps, (L, directions, N, H), and the last of them, (directions, N, H) each.

    Parameters
    ----------
    call
        Call of the operator.
    op_name
        Op of the service.
    value
        Input, (L, N, features).
    directions
        For each direction whether it goes backwards.
    """
    is_backward = directions == [True]
    value = call.emit("flip", [value], dims=[0]) if is_backward else value
    hidden, (length, batch) = call.get(2).shape[-1], value.shape[:2]
    initial = [_find_initial(call, position, len(directions), batch, hidden) for position in (5, 6)]
    orders = _list_orders(call, hidden)
    weights = [part for index in range(len(directions)) for part in _list_weights(call, index, orders)]
    states = initial if call.operator == "LSTM" else initial[:1]
    attributes = {"has_biases": call.get_optional(3) is not None, "bidirectional": len(directions) == 2}
    names = ["output", "h_n", "c_n"] if call.operator == "LSTM" else ["output", "h_n"]
    operands = [value, *states, weights]
    results: list[Value] = [
        call.emit(op_name, operands, output=output, **attributes) for output in names[: call.output_count]
    ]
    result = call.emit("flip", [results[0]], dims=[0]) if is_backward else results[0]
    split = reshape(call, result, [length, batch, len(directions), hidden])
    return [call.emit("permute", [split], dims=[0, 2, 1, 3]), *results[1:]]


def _list_orders(call: NodeCall, hidden: int) -> list[Known]:
    """Return the rows of a weight, and of the other half of both biases, in PyTorch's order of the gates."""
    gates = _GATES[call.operator]
    rows = np.concatenate([np.arange(hidden) + gate * hidden for gate in gates])
    return [call.make_constant(rows + half * len(rows), "order") for half in (0, 1)]


def _list_weights(call: NodeCall, index: int, orders: list[Known]) -> list[Value]:
    """Return w_ih, w_hh, b_ih and b_hh of a direction with PyTorch's order of the gates."""
    parts: list[Value] = []
    for position in (1, 2, 3):
        source = call.get_optional(position)
        if source is None:
            continue
        own = call.emit("select", [source], dim=0, index=index)
        for order in orders if position == 3 else orders[:1]:
            is_whole = np.array_equal(order.array, np.arange(own.shape[0]))
            parts.append(own if is_whole else call.emit("index_select", [own, order], dim=0))
    return parts


def _find_initial(call: NodeCall, position: int, directions: int, batch: int, hidden: int) -> Value:
    """Return the states before the first step, (directions, N, H)."""
    initial = call.get_optional(position) if position == 5 or call.operator == "LSTM" else None
    if initial is None:
        return call.make_constant(np.zeros((directions, batch, hidden)), "initial")
    return call.emit("transpose", [initial], dim0=0, dim1=1) if call.attributes.get("layout") else initial
