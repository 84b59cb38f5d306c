"""RNN, GRU and LSTM: one node of the service, or unrolled in forms that PyTorch has not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import NodeCall, Results, register_operator
from service.checks.importing.operators.activation import apply_hard_sigmoid, apply_softplus, apply_softsign
from service.checks.importing.operators.recurrent_layer import find_layer, run_layer
from service.checks.importing.operators.shape import narrow, reshape
from service.checks.importing.values import Value

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULT_ACTIVATIONS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}

_ACTIVATIONS: dict[str, Callable[[NodeCall, Value, float | None, float | None], Value]] = {
    "relu": lambda call, value, alpha, beta: call.emit("relu", [value]),
    "tanh": lambda call, value, alpha, beta: call.emit("tanh", [value]),
    "sigmoid": lambda call, value, alpha, beta: call.emit("sigmoid", [value]),
    "softsign": lambda call, value, alpha, beta: apply_softsign(call, value),
    "softplus": lambda call, value, alpha, beta: apply_softplus(call, value),
    "elu": lambda call, value, alpha, beta: call.emit("elu", [value], alpha=1.0 if alpha is None else alpha),
    "leakyrelu": lambda call, value, alpha, beta: call.emit(
        "leaky_relu", [value], negative_slope=0.01 if alpha is None else alpha
    ),
    "hardsigmoid": lambda call, value, alpha, beta: apply_hard_sigmoid(
        call, value, 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
    ),
    "affine": lambda call, value, alpha, beta: call.emit(
        "add", [call.emit("mul", [value, 1.0 if alpha is None else alpha]), 0.0 if beta is None else beta]
    ),
}
"""Activations of recurrent operators by name in small letters, with the value, alpha and beta."""
Activation = Callable[[Value], Value]


@dataclass(frozen=True)
class _Direction:
    """One direction of a recurrent operator.

    Attributes
    ----------
    recurrence
        Weight of the state, (gates H, H).
    recurrence_bias
        Bias of the state, (gates H,); None without one.
    peepholes
        Weights of the cell for the input, output and forget gates, (H,) each; none for most.
    activations
        Functions of the gates.
    hidden
        Length H of the state.
    """

    call: NodeCall
    recurrence: Value
    recurrence_bias: Value | None
    peepholes: list[Value]
    activations: list[Activation]
    hidden: int

    def clip(self, value: Value) -> Value:
        """Return the input of an activation, held within the clip of the operator."""
        bound = self.call.attributes.get("clip")
        return self.call.emit("clamp", [value], min=-float(bound), max=float(bound)) if bound else value

    def activate(self, index: int, value: Value) -> Value:
        """Return an activation of a clipped value."""
        return self.activations[index](self.clip(value))

    def part(self, value: Value, gate: int) -> Value:
        """Return the part of one gate, along the last axis."""
        return narrow(self.call, value, len(value.shape) - 1, gate * self.hidden, self.hidden)

    def add(self, a: Value, b: Value) -> Value:
        """Return a sum."""
        return self.call.emit("add", [a, b])

    def mul(self, a: Value, b: Value) -> Value:
        """Return a product."""
        return self.call.emit("mul", [a, b])


State = tuple[Value, Value]


def _step_rnn(direction: _Direction, projected: Value, state: State) -> State:
    call = direction.call
    moved = call.emit("linear", [state[0], direction.recurrence, direction.recurrence_bias])
    hidden = direction.activate(0, direction.add(projected, moved))
    return hidden, hidden


def _step_gru(direction: _Direction, projected: Value, state: State) -> State:
    call, hidden = direction.call, state[0]
    size = direction.hidden
    moved = call.emit("linear", [hidden, direction.recurrence, direction.recurrence_bias])
    update, reset = (
        direction.activate(0, direction.add(direction.part(projected, gate), direction.part(moved, gate)))
        for gate in (0, 1)
    )
    if call.attributes.get("linear_before_reset"):
        inner = direction.mul(reset, direction.part(moved, 2))
    else:
        rows = narrow(call, direction.recurrence, 0, 2 * size, size)
        bias = direction.recurrence_bias
        gated = [direction.mul(reset, hidden), rows, None if bias is None else narrow(call, bias, 0, 2 * size, size)]
        inner = call.emit("linear", gated)
    new = direction.activate(1, direction.add(direction.part(projected, 2), inner))
    # (1 - z) n + z h = n + z (h - n)
    result = direction.add(new, direction.mul(update, call.emit("sub", [hidden, new])))
    return result, result


def _step_lstm(direction: _Direction, projected: Value, state: State) -> State:
    hidden, cell = state
    moved = direction.call.emit("linear", [hidden, direction.recurrence, direction.recurrence_bias])
    gates = direction.add(projected, moved)
    entry, output, forget, new = (direction.part(gates, gate) for gate in range(4))
    if direction.peepholes:
        entry = direction.add(entry, direction.mul(direction.peepholes[0], cell))
        forget = direction.add(forget, direction.mul(direction.peepholes[2], cell))
    entry, forget, new = (direction.activate(index, value) for index, value in ((0, entry), (0, forget), (1, new)))
    cell = direction.add(direction.mul(forget, cell), direction.mul(entry, new))
    if direction.peepholes:
        output = direction.add(output, direction.mul(direction.peepholes[1], cell))
    hidden = direction.mul(direction.activate(0, output), direction.activations[2](cell))
    return hidden, cell


_STEPS = {"RNN": _step_rnn, "GRU": _step_gru, "LSTM": _step_lstm}


@register_operator("RNN", "GRU", "LSTM")
def _import_recurrent(call: NodeCall) -> Results:
    value, is_batch_first = call.get(0), bool(call.attributes.get("layout"))
    if len(value.shape) != 3 or len(call.get(1).shape) != 3 or len(call.get(2).shape) != 3:
        raise OperatorUseError("takes an input, W and R of three axes each")
    if is_batch_first:
        value = call.emit("transpose", [value], dim0=0, dim1=1)
    steps = value.shape[0]
    lengths = call.get_integers(4, "sequence_lens")
    if lengths is not None and set(lengths) != {steps}:
        raise OperatorUseError("has sequences of different lengths; that is not taken")
    if call.attributes.get("input_forget"):
        raise OperatorUseError("couples its gates (input_forget); that is not taken")
    names = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    directions = names.get(call.attributes.get("direction", "forward"), [])
    if len(directions) != call.get(2).shape[0]:
        raise OperatorUseError(f"has weights for {call.get(2).shape[0]} directions; it must be {len(directions)}")
    activations = [_list_activation_names(call, index) for index in range(len(directions))]
    op_name = find_layer(call, activations, steps)
    if op_name is None:
        result, *lasts = _run_steps(call, value, directions)
    else:
        result, *lasts = run_layer(call, op_name, value, directions)
    if is_batch_first:
        result = call.emit("permute", [result], dims=[2, 0, 1, 3])
        lasts = [call.emit("transpose", [last], dim0=0, dim1=1) for last in lasts]
    return [result, *lasts][: 3 if call.operator == "LSTM" else 2][: call.output_count]


def _run_steps(call: NodeCall, value: Value, directions: list[bool]) -> list[Value]:
    """Return the states of all steps, (L, directions, N, H), and the last ones, with the nodes of each step."""
    outputs: list[list[Value]] = []
    finals: list[State] = []
    for index, is_backward in enumerate(directions):
        hidden_states, final = _run_direction(call, value, index, is_backward=is_backward)
        outputs.append(hidden_states)
        finals.append(final)
    joined = [call.emit("stack", [list(states)], dim=0) for states in zip(*outputs, strict=True)]
    result = call.emit("stack", [joined], dim=0)
    return [result, *(call.emit("stack", [[final[part] for final in finals]], dim=0) for part in (0, 1))]


def _run_direction(call: NodeCall, value: Value, index: int, *, is_backward: bool) -> tuple[list[Value], State]:
    """Return the states of all steps, in the order of the input, and the last one."""

    def take(position: int) -> Value | None:
        part = call.get_optional(position)
        return None if part is None else _take_direction(call, part, index)

    weight, recurrence, bias = take(1), take(2), take(3)
    assert weight is not None
    assert recurrence is not None
    hidden, gates = recurrence.shape[-1], _GATES[call.operator]
    half = gates * hidden
    direction = _Direction(
        call,
        recurrence,
        None if bias is None else narrow(call, bias, 0, half, half),
        _list_peepholes(call, take(7), hidden),
        _list_activations(call, index),
        hidden,
    )
    projected = call.emit("linear", [value, weight, None if bias is None else narrow(call, bias, 0, 0, half)])
    steps, batch = value.shape[:2]
    state = _find_initial(call, index, 5, batch, hidden), _find_initial(call, index, 6, batch, hidden)
    states: list[Value] = []
    for step in reversed(range(steps)) if is_backward else range(steps):
        part = reshape(call, narrow(call, projected, 0, step, 1), [batch, half])
        state = _STEPS[call.operator](direction, part, state)
        states.append(state[0])
    return states[::-1] if is_backward else states, state


def _take_direction(call: NodeCall, value: Value, index: int) -> Value:
    return reshape(call, narrow(call, value, 0, index, 1), list(value.shape[1:]))


def _list_peepholes(call: NodeCall, peepholes: Value | None, hidden: int) -> list[Value]:
    if call.operator != "LSTM" or peepholes is None:
        return []
    return [narrow(call, peepholes, 0, part * hidden, hidden) for part in range(3)]


def _find_initial(call: NodeCall, index: int, position: int, batch: int, hidden: int) -> Value:
    initial = call.get_optional(position) if position == 5 or call.operator == "LSTM" else None
    if initial is None:
        return call.make_constant(np.zeros((batch, hidden)), "initial")
    if call.attributes.get("layout"):
        initial = call.emit("transpose", [initial], dim0=0, dim1=1)
    return _take_direction(call, initial, index)


def _list_activations(call: NodeCall, index: int) -> list[Activation]:
    """Return the functions of one direction."""
    names = _list_activation_names(call, index)
    alphas, betas = (iter(call.attributes.get(f"activation_{name}") or []) for name in ("alpha", "beta"))
    return [_make_activation(call, name, alphas, betas) for name in names]


def _list_activation_names(call: NodeCall, index: int) -> list[str]:
    """Return the names of the functions of one direction."""
    defaults = _DEFAULT_ACTIVATIONS[call.operator]
    count = len(defaults)
    names: list[str] = list(call.attributes.get("activations") or [])
    # ONNX declares defaults for both directions.
    return names[count * index : count * (index + 1)] or defaults


def _make_activation(call: NodeCall, name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    function = _ACTIVATIONS.get(name.lower())
    if function is None:
        raise OperatorUseError(f"has the activation {name!r:.40}; taken are {', '.join(_ACTIVATIONS)}")
    alpha = next(alphas, None) if name.lower() in ("elu", "leakyrelu", "hardsigmoid", "affine") else None
    beta = next(betas, None) if name.lower() in ("hardsigmoid", "affine") else None
    return lambda value: function(call, value, alpha, beta)
