"""Reverse accumulation over arrays of mpf: a few primitives, each with the rule of its derivative.

Griewank and Walther, Evaluating Derivatives (2008), section 3.2. Nothing is done for accuracy: digits are carried
instead.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import mpmath
import numpy as np

from service.numerics.core.batching import Array, Shape

_TENSOR_IDS = count()

to_mpf = np.frompyfunc(mpmath.mpf, 1, 1)
"""Numbers as mpf: of an array an array of objects."""

PRIMITIVES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    # The function y of x, and its derivative as a function of x and y.
    "exp": (mpmath.exp, lambda x, y: y),
    "log": (mpmath.log, lambda x, y: 1 / x),
    "sqrt": (mpmath.sqrt, lambda x, y: 1 / (2 * y)),
    "tanh": (mpmath.tanh, lambda x, y: 1 - y * y),
    "sin": (mpmath.sin, lambda x, y: mpmath.cos(x)),
    "cos": (mpmath.cos, lambda x, y: -mpmath.sin(x)),
    "erf": (mpmath.erf, lambda x, y: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x)),
}


class MpfTensor:
    """An array of mpf, (...), that knows what it was made of.

    Parameters
    ----------
    value
        The numbers.
    parents
        Each tensor that it was made of, with the rule that turns dL/dself into that tensor's share of dL/dparent.
    """

    __array_ufunc__ = None  # so that NumPy leaves `array * tensor` to the tensor

    def __init__(self, value: Any, parents: Sequence[tuple["MpfTensor", Callable[[Array], Any]]] = ()) -> None:
        self.value = np.asarray(value, dtype=object)
        self.parents = tuple(parents)
        self.number = next(_TENSOR_IDS)

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def ndim(self) -> int:
        return self.value.ndim

    def __add__(self, other: Any) -> "MpfTensor":
        a, b = self, _to_tensor(other)
        return MpfTensor(a.value + b.value, ((a, lambda g: g), (b, lambda g: g)))

    def __neg__(self) -> "MpfTensor":
        return MpfTensor(-self.value, ((self, lambda g: -g),))

    def __mul__(self, other: Any) -> "MpfTensor":
        a, b = self, _to_tensor(other)
        return MpfTensor(a.value * b.value, ((a, lambda g: g * b.value), (b, lambda g: g * a.value)))

    def __truediv__(self, other: Any) -> "MpfTensor":
        a, b = self, _to_tensor(other)
        quotient = a.value / b.value
        return MpfTensor(quotient, ((a, lambda g: g / b.value), (b, lambda g: -g * quotient / b.value)))

    def __matmul__(self, other: "MpfTensor") -> "MpfTensor":
        """Products of matrices, of two axes at least."""
        a, b = self, other
        return MpfTensor(
            a.value @ b.value,
            ((a, lambda g: g @ np.swapaxes(b.value, -1, -2)), (b, lambda g: np.swapaxes(a.value, -1, -2) @ g)),
        )

    def __sub__(self, other: Any) -> "MpfTensor":
        return self + -_to_tensor(other)

    def __rsub__(self, other: Any) -> "MpfTensor":
        return -self + other

    def __rtruediv__(self, other: Any) -> "MpfTensor":
        return _to_tensor(other) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __getitem__(self, index: Any) -> "MpfTensor":
        """Elements by slices or by arrays of integers; what is taken twice adds up."""

        def scatter_gradient(g: Array) -> Array:
            whole = np.full(self.shape, mpmath.mpf(0), dtype=object)
            np.add.at(whole, index, g)
            return whole

        return MpfTensor(self.value[index], ((self, scatter_gradient),))

    def apply(self, name: str) -> "MpfTensor":
        """One of `FUNCTIONS`, element by element."""
        function, slope = (
            np.frompyfunc(primitive, inputs, 1) for primitive, inputs in zip(PRIMITIVES[name], (1, 2), strict=True)
        )
        value = function(self.value)
        return MpfTensor(value, ((self, lambda g: g * slope(self.value, value)),))

    def sum(self, axes: int | Sequence[int] | None = None, keepdims: bool = False) -> "MpfTensor":
        over = None if axes is None else tuple(np.atleast_1d(axes).tolist())
        kept = np.asarray(self.value.sum(axis=over, keepdims=True), dtype=object)
        value = kept if keepdims else self.value.sum(axis=over)
        return MpfTensor(value, ((self, lambda g: np.broadcast_to(np.reshape(g, kept.shape), self.shape)),))

    def reshape(self, *shape: int) -> "MpfTensor":
        return MpfTensor(self.value.reshape(shape), ((self, lambda g: g.reshape(self.shape)),))

    def pad(self, widths: Sequence[tuple[int, int]]) -> "MpfTensor":
        """Zeros before and behind, for each axis."""
        inner = tuple(slice(before, before + length) for (before, _), length in zip(widths, self.shape, strict=True))
        padded = np.pad(self.value, widths, constant_values=mpmath.mpf(0))
        return MpfTensor(padded, ((self, lambda g: g[inner]),))

    def transpose(self, *order: int) -> "MpfTensor":
        back = np.argsort(order)
        return MpfTensor(self.value.transpose(order), ((self, lambda g: g.transpose(back)),))


def _to_tensor(other: Any) -> MpfTensor:
    return other if isinstance(other, MpfTensor) else MpfTensor(to_mpf(other))


def backpropagate(loss: MpfTensor) -> dict[int, Array]:
    """Gradient of a tensor of one element with respect to all that it was made of, by the number of each tensor."""
    gradients = {loss.number: np.full(loss.shape, mpmath.mpf(1), dtype=object)}
    for tensor in sorted(_list_ancestors(loss), key=lambda ancestor: -ancestor.number):
        for parent, rule in tensor.parents:
            share = _sum_to_shape(np.asarray(rule(gradients[tensor.number]), dtype=object), parent.shape)
            total = gradients[parent.number] + share if parent.number in gradients else share
            gradients[parent.number] = np.asarray(total, dtype=object)
    return gradients


def _list_ancestors(loss: MpfTensor) -> list[MpfTensor]:
    ancestors, pending = {loss.number: loss}, [loss]
    while pending:
        for parent, _ in pending.pop().parents:
            if parent.number not in ancestors:
                ancestors[parent.number] = parent
                pending.append(parent)
    return list(ancestors.values())


def _sum_to_shape(g: Array, shape: Shape) -> Array:
    """Sum over the axes along which an operand of `shape` was repeated."""
    g = np.asarray(g.sum(axis=tuple(range(g.ndim - len(shape)))), dtype=object) if g.ndim > len(shape) else g
    repeated = tuple(axis for axis, length in enumerate(shape) if length == 1 and g.shape[axis] != 1)
    return g.sum(axis=repeated, keepdims=True) if repeated else g
