"""Recurrent layers over a sequence, unrolled into the ops of their steps."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import OpExample, ShapeError, register_op

_MOST_STEPS = 256
"""Most steps of a layer, of all layers and directions together: each is some ten nodes."""
_State = tuple[str, ...]


class _LayerWeights(NamedTuple):
    """Weights of one direction of a layer."""

    by_input: str
    by_state: str
    input_bias: str | None
    state_bias: str | None


class _RecurrentLayers(CompositeOp):
    """Layers over a sequence whose state follows from the input and the state before.

    A subclass declares the number of its gates, its states and one step.
    """

    has_biases: bool
    num_layers: int
    bidirectional: bool
    batch_first: bool

    gate_count: int = 1
    state_count: int = 1

    def advance(self, step: Expansion, projected: str, moved: str, state: _State, hidden: int) -> _State:
        """Add the steps from one state to the next.

        Parameters
        ----------
        step
            Expansion.
        projected
            Input times its weight, plus its bias, (batch, gates hidden).
        moved
            Hidden state times its weight, plus its bias, (batch, gates hidden).
        state
            State before, each part (batch, hidden).
        hidden
            Length of the state.
        """
        raise NotImplementedError

    def _get_output(self) -> str:
        return getattr(self, "output", "output")

    def expand(self, step: Expansion, input: str, *operands: str) -> str:
        initial, weights = operands[: self.state_count], operands[self.state_count :]
        directions = 2 if self.bidirectional else 1
        self._check_shapes(step, input, initial, weights)
        sequence = step("transpose", input, dim0=0, dim1=1) if self.batch_first else input
        finals: list[_State] = []
        per_direction = 4 if self.has_biases else 2
        for layer in range(self.num_layers):
            outputs: list[str] = []
            for direction in range(directions):
                index = layer * directions + direction
                own = weights[index * per_direction : (index + 1) * per_direction]
                first = tuple(step("select", part, dim=0, index=index) for part in initial)
                states = self._run(
                    step, sequence, _LayerWeights(*own, *(None,) * (4 - len(own))), first, direction == 1
                )
                finals.append(states[0 if direction else -1])
                outputs.append(step("stack", *(state[0] for state in states), dim=0))
            sequence = outputs[0] if len(outputs) == 1 else step("cat", *outputs, dim=-1)
        if self._get_output() != "output":
            part = ("h_n", "c_n").index(self._get_output())
            return step("stack", *(final[part] for final in finals), dim=0)
        return step("transpose", sequence, dim0=0, dim1=1) if self.batch_first else sequence

    def _run(
        self, step: Expansion, sequence: str, weights: _LayerWeights, state: _State, is_backward: bool
    ) -> list[_State]:
        """Add the steps of one direction, and return its states in the order of the input."""
        length, hidden = step.get_shape(sequence)[0], step.get_shape(weights.by_state)[1]
        projected = step("linear", sequence, weights.by_input, weights.input_bias)
        states: list[_State] = []
        for position in reversed(range(length)) if is_backward else range(length):
            entry = step("select", projected, dim=0, index=position)
            moved = step("linear", state[0], weights.by_state, weights.state_bias)
            state = self.advance(step, entry, moved, state, hidden)
            states.append(state)
        return states[::-1] if is_backward else states

    def _check_shapes(self, step: Expansion, input: str, initial: Sequence[str], weights: Sequence[str]) -> None:
        directions, per_direction = (2 if self.bidirectional else 1), (4 if self.has_biases else 2)
        layers = self.num_layers * directions
        if len(weights) != layers * per_direction:
            kind = "w_ih, w_hh, b_ih, b_hh" if self.has_biases else "w_ih, w_hh (has_biases is false)"
            raise ShapeError(f"{layers * per_direction} weights: {kind} of each layer and direction")
        shape = step.get_shape(input)
        if len(shape) != 3 or any(len(step.get_shape(part)) != 3 for part in initial):
            raise ShapeError("an input (L, N, features), or (N, L, features) with batch_first, and states of 3 axes")
        length, batch = (shape[1], shape[0]) if self.batch_first else shape[:2]
        if not length:
            raise ShapeError("a sequence of one step at least")
        if length * layers > _MOST_STEPS:
            raise ShapeError(f"{_MOST_STEPS} steps of all layers and directions at most, not {length * layers}")
        hidden, features = step.get_shape(initial[0])[-1], shape[2]
        if any(step.get_shape(part) != (layers, batch, hidden) for part in initial):
            raise ShapeError(f"states of shape [{layers}, {batch}, hidden]: one for each layer and direction")
        rows = self.gate_count * hidden
        for index in range(layers):
            columns = features if index < directions else directions * hidden
            expected = [(rows, columns), (rows, hidden), (rows,), (rows,)][:per_direction]
            own = [step.get_shape(name) for name in weights[index * per_direction : (index + 1) * per_direction]]
            if own != expected:
                raise ShapeError(f"weights {[list(shape) for shape in expected]} in layer {index // directions}")

    def torch_forward(self, torch: Any, input: Any, *operands: Any) -> Any:
        states, weights = operands[: self.state_count], operands[self.state_count :]
        layer = getattr(torch, self.name)
        initial = states[0] if self.state_count == 1 else states
        settings = self.has_biases, self.num_layers, 0.0, False, self.bidirectional, self.batch_first
        outputs = layer(input, initial, list(weights), *settings)
        return outputs[("output", "h_n", "c_n").index(self._get_output())]


@register_op("lstm")
class Lstm(_RecurrentLayers):
    """LSTM over a sequence: `output`, `h_n` or `c_n` of `torch.lstm`, with the weights of all layers and directions.

    With z = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh in parts for i, f, g, o:
        c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)        h_t = sigmoid(o) tanh(c_t)
    The gradient goes back through time: dL/dc_t = dL/dh_t sigmoid(o) (1 - tanh(c_t)^2) + sigmoid(f_{t+1}) dL/dc_{t+1},
    dL/dh_{t-1} gains W_hh^T dL/dz_t, and dL/dW_hh = sum_t dL/dz_t h_{t-1}^T. Hochreiter and Schmidhuber (1997).
    """

    output: Literal["output", "h_n", "c_n"] = "output"
    has_biases: bool = True
    num_layers: Positive = 1
    bidirectional: bool = False
    batch_first: bool = False

    gate_count = 4
    state_count = 2
    inputs = ("input", "hx", "cx", "weights*")
    examples = (
        OpExample(((3, 2, 2), (1, 2, 2), (1, 2, 2), (8, 2), (8, 2), (8,), (8,)), low=-1, high=1),
        OpExample(
            ((1, 2, 1), (2, 1, 1), (2, 1, 1), (4, 1), (4, 1), (4, 1), (4, 1)),
            {"has_biases": False, "bidirectional": True, "batch_first": True, "output": "c_n"},
            low=-1,
            high=1,
        ),
    )

    def advance(self, step: Expansion, projected: str, moved: str, state: _State, hidden: int) -> _State:
        gates = step("add", projected, moved)
        parts = [step("narrow", gates, dim=-1, start=gate * hidden, length=hidden) for gate in range(4)]
        entry, forget, leave = (step("sigmoid", parts[gate]) for gate in (0, 1, 3))
        kept, new = step("mul", forget, state[1]), step("mul", entry, step("tanh", parts[2]))
        cell = step("add", kept, new)
        return step("mul", leave, step("tanh", cell)), cell


@register_op("gru")
class Gru(_RecurrentLayers):
    """GRU over a sequence: `output` or `h_n` of `torch.gru`, with the weights of all layers and directions.

    With p = W_ih x_t + b_ih and q = W_hh h_{t-1} + b_hh in parts for r, z, n:
        r = sigmoid(p_r + q_r)    z = sigmoid(p_z + q_z)    n = tanh(p_n + r q_n)    h_t = (1 - z) n + z h_{t-1}
    The gradient goes back through time: dL/dh_{t-1} = z dL/dh_t + W_hh^T dL/dq_t, dL/dW_hh = sum_t dL/dq_t h_{t-1}^T.
    Cho et al., Learning phrase representations (2014), in the form of PyTorch: r multiplies q_n, with its bias.
    """

    output: Literal["output", "h_n"] = "output"
    has_biases: bool = True
    num_layers: Positive = 1
    bidirectional: bool = False
    batch_first: bool = False

    gate_count = 3
    inputs = ("input", "hx", "weights*")
    examples = (OpExample(((3, 2, 2), (1, 2, 2), (6, 2), (6, 2), (6,), (6,)), low=-1, high=1),)

    def advance(self, step: Expansion, projected: str, moved: str, state: _State, hidden: int) -> _State:
        def take(values: str, gate: int) -> str:
            return step("narrow", values, dim=-1, start=gate * hidden, length=hidden)

        reset, update = (step("sigmoid", step("add", take(projected, gate), take(moved, gate))) for gate in (0, 1))
        new = step("tanh", step("add", take(projected, 2), step("mul", reset, take(moved, 2))))
        # (1 - z) n + z h = n + z (h - n)
        return (step("add", new, step("mul", update, step("sub", state[0], new))),)


class _PlainRecurrence(_RecurrentLayers):
    """A layer of one function: h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)."""

    inputs = ("input", "hx", "weights*")

    def advance(self, step: Expansion, projected: str, moved: str, state: _State, hidden: int) -> _State:
        return (step(self.name.removeprefix("rnn_"), step("add", projected, moved)),)


@register_op("rnn_tanh")
class RnnTanh(_PlainRecurrence):
    """Elman network over a sequence: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    With d_t = dL/dh_t (1 - h_t^2): dL/dh_{t-1} gains W_hh^T d_t, dL/dW_hh = sum_t d_t h_{t-1}^T.
    """

    output: Literal["output", "h_n"] = "output"
    has_biases: bool = True
    num_layers: Positive = 1
    bidirectional: bool = False
    batch_first: bool = False

    examples = (
        OpExample(
            ((2, 2, 2), (2, 2, 2), (2, 2), (2, 2), (2, 2), (2, 2)),
            {"num_layers": 2, "has_biases": False},
            low=-1,
            high=1,
        ),
    )


@register_op("rnn_relu")
class RnnRelu(_PlainRecurrence):
    """Elman network over a sequence: h_t = relu(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

    With d_t = dL/dh_t where h_t > 0, else 0: dL/dh_{t-1} gains W_hh^T d_t, dL/dW_hh = sum_t d_t h_{t-1}^T.
    """

    output: Literal["output", "h_n"] = "output"
    has_biases: bool = True
    num_layers: Positive = 1
    bidirectional: bool = False
    batch_first: bool = False

    examples = (OpExample(((3, 1, 2), (1, 1, 2), (2, 2), (2, 2), (2,), (2,)), {"output": "h_n"}, low=-0.2, high=1),)
