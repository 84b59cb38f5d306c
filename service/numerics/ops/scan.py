"""Linear recurrences along an axis, and the selective scan that is made of one."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, broadcast_batch, count_elements
from service.numerics.core.interrupts import check_interrupt
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    register_op,
)
from service.numerics.ops.rounding_errors import Rounding


def scan(factors: Array, terms: Array, initial: Array | None = None) -> Array:
    """Return h_t = a_t h_{t-1} + b_t along the first axis behind the tiles, with h_0 = 0 by default.

    One step follows the other: products of factors alone, of which a scan in parallel is made, leave the range where
    the states do not.
    """
    parts = (factors, terms) if initial is None else (factors, terms, initial[:, None])
    states = np.empty(np.broadcast_shapes(*(part.shape for part in parts)), np.result_type(*parts))
    for position in range(factors.shape[1]):
        check_interrupt()
        if position == 0 and initial is None:
            states[:, 0] = terms[:, 0]
        else:
            before = initial if position == 0 else states[:, position - 1]
            states[:, position] = factors[:, position] * before + terms[:, position]
    return states


@register_op("linear_scan")
class LinearScan(Op):
    """Linear recurrence along an axis: h_t = a_t h_{t-1} + b_t, from h_0 = initial, or 0.

    With R_t the whole gradient of h_t, of its own output and of all that follow:
        R_t = g_t + a_{t+1} R_{t+1}        dL/db_t = R_t        dL/da_t = R_t h_{t-1}        dL/dh_0 = a_1 R_1
    """

    dim: int

    inputs = ("a", "b", "initial?")
    supports_complex_step = True
    linear_in = MappingProxyType({"b": ("initial",), "initial": ("b",)})
    examples = (
        OpExample(((4, 3), (4, 3), (3,)), {"dim": 0}),
        OpExample(((2, 3, 2), (2, 3, 2), None), {"dim": -2}),
        OpExample(((5,), (5,), ()), {"dim": 0}),
    )

    def infer_output_shape(self, a: Shape, b: Shape, initial: Shape | None = None) -> Shape:
        if not b or a != b:
            raise ShapeError("a and b of one shape, with an axis at least")
        axis = normalize_axis(self.dim, len(b))
        rest = b[:axis] + b[axis + 1 :]
        if initial is not None and initial != rest:
            raise ShapeError(f"an initial state of shape {list(rest)}")
        return b

    def _move_first(self, array: Array) -> Array:
        return np.moveaxis(array, normalize_axis(self.dim, array.ndim - 1) + 1, 1)

    def _move_back(self, array: Array) -> Array:
        return np.moveaxis(array, 1, normalize_axis(self.dim, array.ndim - 1) + 1)

    def forward(self, a: Array, b: Array, initial: Array | None = None) -> Array:
        return self._move_back(scan(self._move_first(a), self._move_first(b), initial))

    def _scan_back(self, gradient: Array, a: Array) -> Array:
        """Return R, given moved arrays."""
        behind = np.concatenate([a[:, 1:], np.zeros_like(a[:, :1])], axis=1)
        return scan(behind[:, ::-1], gradient[:, ::-1])[:, ::-1]

    def _list_states_before(self, output: Array, initial: Array | None) -> Array:
        """Return h_{t-1} for each t, given moved outputs."""
        first = np.zeros_like(output[:, :1]) if initial is None else broadcast_batch(initial, len(output))[:, None]
        if initial is not None and len(initial) > len(output):
            output = broadcast_batch(output, len(initial))
            first = initial[:, None]
        return np.concatenate([first, output[:, :-1]], axis=1)

    def _assemble(self, total: Array, a: Array, output: Array, initial: Array | None) -> Gradients:
        by_factor = total * self._list_states_before(self._move_first(output), initial)
        by_initial = None if initial is None else self._move_first(a)[:, 0] * total[:, 0]
        return self._move_back(by_factor), self._move_back(total), by_initial

    def backward(self, gradient: Array, output: Array, a: Array, b: Array, initial: Array | None = None) -> Gradients:
        total = self._scan_back(self._move_first(gradient), self._move_first(a))
        return self._assemble(total, a, output, initial)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        of_initial = values[2] if len(values) > 2 else None
        labels = [self._move_first(array) for array in drop_missing(values[:2])]
        if of_initial is not None:
            labels.append(of_initial[:, None])
        shape = self._move_first(inputs[1]).shape[1:]
        joined = take_elementwise_min(*labels)
        joined = np.broadcast_to(joined, (len(joined), *shape))
        return self._move_back(np.minimum.accumulate(joined, axis=1))

    def _get_length(self, array: Array) -> int:
        return self._move_first(array).shape[1]

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        sizes = self.forward(*_take_sizes(inputs))
        return Rounding(sizes, self._get_length(output) + 1)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), np.abs(output), *_take_sizes(inputs))
        terms = self._get_length(output) + 1
        return tuple(None if magnitude is None else Rounding(magnitude, terms) for magnitude in magnitudes)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        length = output[normalize_axis(self.dim, len(output))]
        return ComputeCost(2 * count_elements(output), count_elements(output), 2 * length)

    @declare_bug("the states behind were left out: each step got the gradient of its own output alone")
    def not_carried_back(
        self, gradient: Array, output: Array, a: Array, b: Array, initial: Array | None = None
    ) -> Gradients:
        return self._assemble(self._move_first(gradient), a, output, initial)

    @declare_bug("the gradient was carried back by the factor of its own step, a_t, and not by a_{t+1}")
    def own_factor_on_the_way_back(
        self, gradient: Array, output: Array, a: Array, b: Array, initial: Array | None = None
    ) -> Gradients:
        shifted = np.roll(self._move_first(a), 1, axis=1)
        return self._assemble(self._scan_back(self._move_first(gradient), shifted), a, output, initial)

    @declare_bug("the state of the step itself, h_t, took the place of the one before, h_{t-1}")
    def own_state_for_the_one_before(
        self, gradient: Array, output: Array, a: Array, b: Array, initial: Array | None = None
    ) -> Gradients:
        _, total, by_initial = self.backward(gradient, output, a, b, initial)
        assert total is not None
        return total * output, total, by_initial

    def torch_forward(self, torch: Any, a: Any, b: Any, initial: Any = None) -> Any:
        factors, terms = a.movedim(self.dim, 0), b.movedim(self.dim, 0)
        state: Any = initial
        states: list[Any] = []
        for factor, term in zip(factors, terms, strict=True):
            state = term.clone() if state is None else factor * state + term
            states.append(state)
        result = torch.stack(states).movedim(0, self.dim)
        # Without an initial state the first factor is not read, and has a gradient of 0.
        return result if initial is not None else result + 0 * a.detach()


def _take_sizes(inputs: tuple[Any, ...]) -> list[Any]:
    return [None if array is None else np.abs(array) for array in inputs]


@register_op("selective_scan")
class SelectiveScan(CompositeOp):
    """Selective scan of a state space, as Mamba has it.

    Input u (B, D, L), step sizes delta (B, D, L), A (D, N), B and C (B, N, L), D (D,). For each b, d, n along L:
        h_t = exp(delta_t A) h_{t-1} + delta_t B_t u_t        y_t = sum_n C_t h_t + D u_t
    With R_t the gradient of h_t, R_t = C_t g_t + exp(delta_{t+1} A) R_{t+1}, the chain rule gives
    dL/dC_t = sum_d g_t h_t, dL/dA = sum R_t h_{t-1} exp(delta_t A) delta_t, and so on. Gu and Dao, Mamba (2023),
    section 3.2.
    """

    inputs = ("u", "delta", "A", "B", "C", "D?")
    examples = (
        OpExample(((2, 3, 4), (2, 3, 4), (3, 2), (2, 2, 4), (2, 2, 4), (3,)), low=-1, high=1),
        OpExample(((1, 2, 3), (1, 2, 3), (2, 2), (1, 2, 3), (1, 2, 3), None), low=-1, high=1),
    )

    def expand(self, step: Expansion, u: str, delta: str, a: str, b: str, c: str, d: str | None) -> str:
        shapes = [step.get_shape(name) for name in (u, delta, a, b, c, d)]
        if len(shapes[0]) != 3 or len(shapes[2]) != 2:
            raise ShapeError("u and delta (B, D, L), A (D, N), B and C (B, N, L), D (D,)")
        batch, channels, length = shapes[0]
        state = batch, shapes[2][1], length
        if shapes[1:] != [shapes[0], (channels, state[1]), state, state, None if d is None else (channels,)]:
            raise ShapeError("u and delta (B, D, L), A (D, N), B and C (B, N, L), D (D,)")
        decay = step("exp", step("einsum", delta, a, equation="bdl,dn->bdnl"))
        entry = step("einsum", step("mul", delta, u), b, equation="bdl,bnl->bdnl")
        states = step("linear_scan", decay, entry, dim=-1)
        output = step("einsum", states, c, equation="bdnl,bnl->bdl")
        if d is None:
            return output
        return step("add", output, step("mul", u, step("unsqueeze", d, dim=-1)))

    def torch_forward(self, torch: Any, u: Any, delta: Any, a: Any, b: Any, c: Any, d: Any = None) -> Any:
        state: Any = None
        outputs: list[Any] = []
        for t in range(u.shape[-1]):
            entry = (delta[:, :, t] * u[:, :, t])[..., None] * b[:, None, :, t]
            state = entry if state is None else torch.exp(delta[:, :, t, None] * a) * state + entry
            outputs.append((state * c[:, None, :, t]).sum(-1))
        output = torch.stack(outputs, -1)
        return output if d is None else output + d[:, None] * u
