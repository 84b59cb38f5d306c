"""Rotary position embedding."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from service.numerics.core.batching import Array, Shape, align_rank, is_broadcastable, sum_broadcast_axes
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("rotary_embedding")
class RotaryEmbedding(FormulaBugs, CompositeOp):
    """Rotation of pairs of elements along the last axis: y = x c + r(x) s, c = cos and s = sin of the angles.

    The first R = `rotary_dim` elements of each row are rotated, and the others copied. A pair (u, v) becomes
    (u c - v s, v c + u s). Pairs are the elements i and i + R/2, or 2i and 2i + 1 if `interleaved`. So r(x) has -v in
    the place of u, and u in that of v. cos and sin have an element for each pair, (..., R/2), or for each element of x,
    (..., R), and broadcast to the leading axes of x. By default R is the whole row if they fit it, else twice their
    length. The transpose of r puts q in the place of p, and -p in that of q, for each pair (p, q) of g = dL/dy:
        dL/dx = g c + r^T(g s)        dL/dc = sum g x        dL/ds = sum g r(x)
    The sums go over the axes of the broadcast and the elements that share an angle.
    """

    interleaved: bool = False
    rotary_dim: Annotated[int, Ge(2)] | None = None

    inputs = ("input", "cos", "sin")
    examples = (
        OpExample(((2, 3, 4), (3, 2), (3, 2))),
        OpExample(((2, 4), (2, 4), (2, 4)), {"interleaved": True}),
        OpExample(((2, 6), (2, 2), (2, 2)), {"rotary_dim": 4}),
        OpExample(((2, 5), (1, 1), (1, 1)), {"interleaved": True}),
    )

    # In the formulas c and s have an element for each of x: 1 and 0 where nothing is rotated. u is r^T.
    backward_form = BackwardForm(
        {"input": "g * c + u(g * s)", "cos": "to_pairs(g * x)", "sin": "to_pairs(g * rx)"},
        look_alikes={
            "c": {"s": "the sine stood for the cosine"},
            "s": {"c": "the cosine stood for the sine"},
            "x": {"y": "the output y stood for x"},
            "rx": {
                "x": "x stood for r(x)",
                "ry": "r(y) stood for r(x)",
                "rx_of_other_layout": "pairs of the other layout",
            },
        },
        alternatives={
            "input": {
                "g * c_of_other_layout + u_of_other_layout(g * s_of_other_layout)": (
                    "the pairs were those of the other layout"
                ),
                "g * c + u_of_other_layout(g * s)": "the pairs of r^T were those of the other layout",
            }
        },
        layouts=("to_pairs", "u", "u_of_other_layout"),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        x, cos, sin = inputs
        length = self._find_rotated_length(x.shape[1:], cos.shape[1:], sin.shape[1:])

        def expand(angles: Array, rest: float, interleaved: bool) -> Array:
            repeats = length // angles.shape[-1]
            parts = np.repeat(angles, repeats, -1) if interleaved else np.concatenate([angles] * repeats, -1)
            end = np.full((*parts.shape[:-1], x.shape[-1] - length), rest)
            return align_rank(np.concatenate([parts, end], -1), x.ndim - 1)

        def turn(array: Array, interleaved: bool, sign: float = 1.0) -> Array:
            """Return (-v, u) in the place of each pair (u, v), times a sign, and 0 for elements that are copied."""
            turned = np.zeros_like(array)
            half = length // 2
            first, second = (
                (slice(0, length, 2), slice(1, length, 2)) if interleaved else (slice(0, half), slice(half, length))
            )
            turned[..., first], turned[..., second] = -sign * array[..., second], sign * array[..., first]
            return turned

        def sum_pairs(array: Array) -> Array:
            pairs = array[..., :length]
            if cos.shape[-1] != length:
                shape = (*pairs.shape[:-1], *((length // 2, 2) if self.interleaved else (2, length // 2)))
                pairs = pairs.reshape(shape).sum(axis=-1 if self.interleaved else -2)
            return sum_broadcast_axes(pairs, cos.shape[1:])

        here, other = self.interleaved, not self.interleaved
        return (
            Scope()
            .add_quantities(
                g=lambda: gradient,
                x=lambda: x,
                y=lambda: output,
                c=lambda: expand(cos, 1.0, here),
                s=lambda: expand(sin, 0.0, here),
                c_of_other_layout=lambda: expand(cos, 1.0, other),
                s_of_other_layout=lambda: expand(sin, 0.0, other),
                rx=lambda: turn(x, here),
                ry=lambda: turn(output, here),
                rx_of_other_layout=lambda: turn(x, other),
            )
            .add_functions(
                u=lambda array: turn(array, here, -1.0),
                u_of_other_layout=lambda array: turn(array, other, -1.0),
                to_pairs=sum_pairs,
            )
        )

    def expand(self, step: Expansion, input: str, cos: str, sin: str) -> str:
        shape, angles = step.get_shape(input), step.get_shape(cos)
        rotated = self._find_rotated_length(shape, angles, step.get_shape(sin))
        part = input if rotated == shape[-1] else step("narrow", input, dim=-1, start=0, length=rotated)
        turned = self._turn_pairs(step, part)
        cos, sin = (self._expand_angles(step, name, rotated) for name in (cos, sin))
        result = step("add", step("mul", part, cos), step("mul", turned, sin))
        if rotated == shape[-1]:
            return result
        rest = step("narrow", input, dim=-1, start=rotated, length=shape[-1] - rotated)
        return step("cat", result, rest, dim=-1)

    def _find_rotated_length(self, shape: Shape, cos: Shape, sin: Shape) -> int:
        if not shape or not cos or cos != sin:
            raise ShapeError("an input (..., D), and a cos and a sin of one shape (..., R/2) or (..., R)")
        length = cos[-1]
        rotated = self.rotary_dim or (shape[-1] if shape[-1] in (length, 2 * length) else 2 * length)
        if rotated % 2 or not 0 < rotated <= shape[-1] or length not in (rotated, rotated // 2):
            raise ShapeError(
                f"a cos and a sin of length R/2 or R along the last axis, R even, from 2 to D = {shape[-1]}; they"
                f" have length {length}" + ("" if self.rotary_dim is None else f", and rotary_dim is {rotated}")
            )
        if not is_broadcastable((*cos[:-1], 1), (*shape[:-1], 1)):
            raise ShapeError(f"a cos and a sin whose leading axes broadcast to {list(shape[:-1])}")
        return rotated

    def _turn_pairs(self, step: Expansion, part: str) -> str:
        """Return (-v, u) in the place of each pair (u, v)."""
        shape = step.get_shape(part)
        if self.interleaved:
            pairs = step("reshape", part, shape=[*shape[:-1], shape[-1] // 2, 2])
            first, second = (step("select", pairs, dim=-1, index=index) for index in (0, 1))
            return step("reshape", step("stack", step("neg", second), first, dim=-1), shape=list(shape))
        half = shape[-1] // 2
        first, second = (step("narrow", part, dim=-1, start=start, length=half) for start in (0, half))
        return step("cat", step("neg", second), first, dim=-1)

    def _expand_angles(self, step: Expansion, angles: str, rotated: int) -> str:
        """Return a cosine or a sine of each element, given that of each element or of each pair."""
        if step.get_shape(angles)[-1] == rotated:
            return angles
        if self.interleaved:
            return step("repeat_interleave", angles, repeats=2, dim=-1)
        return step("cat", angles, angles, dim=-1)

    def torch_forward(self, torch: Any, input: Any, cos: Any, sin: Any) -> Any:
        rotated = self._find_rotated_length(tuple(input.shape), tuple(cos.shape), tuple(sin.shape))
        part, rest = input[..., :rotated], input[..., rotated:]
        if cos.shape[-1] != rotated:
            cos, sin = (
                torch.repeat_interleave(angles, 2, -1) if self.interleaved else torch.cat((angles, angles), -1)
                for angles in (cos, sin)
            )
        if self.interleaved:
            turned = torch.stack((-part[..., 1::2], part[..., ::2]), -1).flatten(-2)
        else:
            first, second = part.chunk(2, -1)
            turned = torch.cat((-second, first), -1)
        return torch.cat((part * cos + turned * sin, rest), -1)
