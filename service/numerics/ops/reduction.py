"""Reductions over axes: `dim` is an axis, a list of axes, or left out for all."""

import dataclasses
import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np

from service.numerics.ops import continued, length
from service.numerics.ops.axes import Dims, axes, axis, behind_tile, reduced, restored
from service.numerics.ops.choices import Choices, between, one_of
from service.numerics.ops.errors import ONE_ROUNDING, Errors, Rounding
from service.numerics.ops.multiplier import Multiplier, division, factor, of_counts
from service.numerics.ops.op import (
    Argument,
    Case,
    Gradients,
    Op,
    ShapeError,
    Spreading,
    mutant,
    mutant_of,
    op,
)
from service.numerics.ops.running import sum_size
from service.numerics.reach import least
from service.numerics.tiles import Array, Shape, size


class Reduction(Op):
    """y over the axes `dim`, which stay with length 1 if `keepdim`. With N = the elements behind each of y."""

    dim: Any
    keepdim: bool

    inputs = ("input",)
    cases = (
        Case(((3, 4),)),
        Case(((2, 3, 4),), {"dim": 1}),
        Case(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        Case(((),)),
    )

    def output_shape(self, input: Shape) -> Shape:
        return reduced(input, axes(self.dim, len(input)), self.keepdim)

    def spelled_out(self, *shapes: Shape | None) -> Op:
        input = shapes[0]
        assert input is not None
        return dataclasses.replace(cast("Any", self), dim=list(axes(None, len(input)))) if self.dim is None else self

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        return self._shaped(least(of_input, self._over(of_input)), of_input)

    def _over(self, input: Array) -> tuple[int, ...]:
        """Axes behind the tile axis."""
        return behind_tile(axes(self.dim, input.ndim - 1))

    def _count(self, input: Array) -> int:
        return size(tuple(input.shape[each] for each in self._over(input)))

    def _restored(self, array: Array, input: Array) -> Array:
        return restored(array, input.shape[1:], axes(self.dim, input.ndim - 1))

    def _shaped(self, kept: Array, input: Array) -> Array:
        return kept.reshape(kept.shape[:1] + self.output_shape(input.shape[1:]))

    def _outputs(self, input: Array) -> Array:
        """Flat index of the element of the output that each element of the input enters, flat, of one tile."""
        kept = reduced(input.shape[1:], axes(self.dim, input.ndim - 1), True)
        return np.broadcast_to(np.arange(size(kept)).reshape(kept), input.shape[1:]).ravel()

    def _attaining(
        self, off: Array, sizes: Array, signs: Sequence[float], shares: Array, input: Array
    ) -> Choices | None:
        """Choices among what attains the largest of `sizes` times each of the signs, given the share of each."""
        off = np.broadcast_to(off, input.shape)
        least = np.max(np.abs(sizes) - off if len(signs) > 1 else sizes - off, axis=self._over(input), keepdims=True)
        largest = np.max(np.abs(sizes) if len(signs) > 1 else sizes, axis=self._over(input), keepdims=True)
        near = np.stack([(sign * sizes + off >= least)[0].ravel() for sign in signs], axis=1)
        tied = np.stack([(sign * sizes == largest)[0].ravel() for sign in signs], axis=1)
        of_sign = np.sign(sizes[0].ravel()) if len(signs) > 1 else 1.0
        weights = np.maximum(np.multiply.outer(shares[0].ravel() * of_sign, signs), 0)
        if len(signs) > 1:
            # At 0 the signs share alike, and cancel.
            weights = np.where((sizes[0].ravel() == 0)[:, None], np.abs(shares[0].ravel())[:, None] / 2, weights)
        outputs = self._outputs(input)
        elements, which = np.nonzero(near)
        order = np.argsort(outputs[elements], kind="stable")
        elements, which = elements[order], which[order]
        chosen = elements, which
        return one_of(
            outputs[elements], outputs[elements], elements, weights[chosen], tied[chosen], np.array(signs)[which]
        )

    def _torch_dim(self, torch_input: Any) -> tuple[int, ...]:
        return axes(self.dim, torch_input.ndim)


def _flat(values: Spreading) -> Array:
    (of_input,) = values
    assert of_input is not None
    return of_input.reshape(len(of_input), -1)


@op("sum")
class Sum(Reduction):
    """y = sum x: each element enters once, so dL/dx = g, spread over the axes that were summed."""

    dim: Dims = None
    keepdim: bool = False

    analytic = True
    ends_in_sum = True

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shaped(input.sum(axis=self._over(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restored(gradient, input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), max(0, self._count(input) - 1))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[None]:
        return (None,)

    def terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1)

    def spread_terms(self, reached: Array, values: Spreading, *inputs: Any) -> Array:
        return _flat(values)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return of_counts("sum", tuple(input.shape[each] for each in self._over(input)))

    @mutant_of("scaled", declared=True)
    def averaged(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The mean was taken where the forward pass takes the sum."""
        return (self._restored(gradient, input) / self._count(input) + 0 * input,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.sum(input, self._torch_dim(input), self.keepdim)


@op("mean")
class Mean(Reduction):
    """y = sum x / N: dL/dx = g / N, spread over the axes that were summed."""

    dim: Dims = None
    keepdim: bool = False

    analytic = True
    ends_in_sum = True

    linear_in = MappingProxyType({"input": ()})

    def forward(self, input: Array) -> Array:
        return self._shaped(input.sum(axis=self._over(input), keepdims=True) / self._count(input), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        spread = self._restored(gradient, input) / self._count(input)
        return (np.broadcast_to(spread, gradient.shape[:1] + input.shape[1:]),)

    def rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._count(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    def terms(self, output: Array | None, input: Array) -> Array:
        return input.reshape(input.shape[0], -1) / input[0].size

    def spread_terms(self, reached: Array, values: Spreading, *inputs: Any) -> Array:
        return _flat(values)

    def terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        return Rounding(np.abs(terms), 1)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return of_counts("mean", tuple(input.shape[each] for each in self._over(input)))

    @mutant_of("scaled", declared=True)
    def not_divided(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The number of elements was left out that the mean divides by."""
        return (self._restored(gradient, input) + 0 * input,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.mean(input, self._torch_dim(input), self.keepdim)


@op("var")
class Var(Reduction):
    """y = sum (x - m)^2 / (N - correction), m the mean: dL/dx = g 2 (x - m) / (N - correction).

    The mean's own derivative drops out, since sum (x - m) = 0.
    """

    passes = 4
    dim: Dims = None
    correction: float = 1
    keepdim: bool = False

    analytic = True
    cases = (
        Case(((3, 4),)),
        Case(((2, 3, 4),), {"dim": 1, "correction": 0}),
        Case(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
    )

    def output_shape(self, input: Shape) -> Shape:
        over = axes(self.dim, len(input))
        count = size(tuple(input[each] for each in over))
        if count <= self.correction:
            raise ShapeError(f"more than {self.correction:g} elements to take the variance of; there are {count}")
        return reduced(input, over, self.keepdim)

    def _centred(self, input: Array) -> Array:
        return input - input.sum(axis=self._over(input), keepdims=True) / self._count(input)

    def forward(self, input: Array) -> Array:
        squares = np.square(self._centred(input)).sum(axis=self._over(input), keepdims=True)
        return self._shaped(squares / (self._count(input) - self.correction), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        factor = 2 / (self._count(input) - self.correction)
        return (self._restored(gradient, input) * (self._centred(input) * input.dtype.type(factor)),)

    def _centred_with_errors(self, errors: Errors, input: Array) -> Array:
        over, count = self._over(input), self._count(input)
        behind = tuple(range(input.ndim - len(over), input.ndim))
        lined = np.moveaxis(input, over, behind).reshape(*self._kept(input), count)
        size_ = np.expand_dims(sum_size(lined)[..., 0], over) / count
        mean = input.sum(axis=over, keepdims=True) / count
        return input - errors(mean, size_ + np.abs(mean))

    def _kept(self, input: Array) -> Shape:
        return tuple(length for axis, length in enumerate(input.shape) if axis not in self._over(input))

    def forward_with_errors(self, errors: Errors, *inputs: Any) -> Array:
        """Add errors: m is off as a sum of N, which its derivative, 0, hides; the sum by u sqrt(N)."""
        (input,) = inputs
        squares = np.square(self._centred_with_errors(errors, input)).sum(axis=self._over(input), keepdims=True)
        output = self._shaped(squares / (self._count(input) - self.correction), input)
        return errors(output, terms=self._count(input) + 3)

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: all x - m share that of m, a sum of N; each has three of its own."""
        (input,) = inputs
        centred = self._centred_with_errors(errors, input)
        factor = 2 / (self._count(input) - self.correction)
        return (errors(self._restored(gradient, input) * (centred * factor), terms=3),)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [factor(2), division(self._count(input) - self.correction)]

    @mutant
    def divided_by_all(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The number that it is divided by was taken one too large."""
        return (self._restored(gradient, input) * self._centred(input) * 2 / (self._count(input) + 1),)

    @mutant
    def mean_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The mean was not subtracted."""
        return (self._restored(gradient, input) * input * 2 / (self._count(input) - self.correction),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.var(input, self._torch_dim(input), correction=self.correction, keepdim=self.keepdim)


@op("amax")
class Amax(Reduction):
    """y = max x: dL/dx = g at the largest element, in equal parts where several are."""

    dim: Dims = None
    keepdim: bool = False

    def branch(self, input: Array) -> Array:
        """Share of each element in the largest."""
        largest = input == input.max(axis=self._over(input), keepdims=True)
        return largest / largest.sum(axis=self._over(input), keepdims=True)

    def choices(self, off: Sequence[Array | None], input: Array) -> Choices | None:
        """Weights that sum to one of the elements that attain the largest."""
        assert off[0] is not None
        return self._attaining(off[0], input, (1.0,), self.branch(input), input)

    def along(self, branch: Array, input: Array) -> Array:
        return self._shaped((input * branch).sum(axis=self._over(input), keepdims=True), input)

    def forward(self, input: Array) -> Array:
        return self._shaped(input.max(axis=self._over(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restored(gradient, input) * self.branch(input).astype(gradient.dtype),)

    def rounding(self, output: Array, input: Array) -> None:
        return None

    def rounding_along(self, branch: Array, output: Array, input: Array) -> Rounding:
        # The mean of several that are equal rounds; one alone is only moved.
        several = np.max(np.abs(branch) * (1 - np.abs(branch)) > 0, axis=self._over(input), keepdims=True)
        return Rounding(np.abs(output) * self._shaped(several, input), self._count(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, 1),)

    @mutant
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The gradient of the maximum went to every element."""
        return (self._restored(gradient, input) + 0 * input,)

    @mutant_of("to_every_element", at_ties=True)
    def to_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The whole gradient of the maximum went to every element that attains it, where several do."""
        return (self._restored(gradient, input) * (input == self._restored(output, input)),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.amax(input, self._torch_dim(input), self.keepdim)


@op("logsumexp")
class LogSumExp(Reduction):
    """y = log sum exp(x) = m + log sum exp(x - m), m the largest: dL/dx = g exp(x - y)."""

    passes = 5
    dim: int | list[int]
    keepdim: bool = False

    analytic = True
    cases = (
        Case(((3, 4),), {"dim": 1}),
        Case(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
        Case(((5,),), {"dim": 0}, low=-40, high=40),
    )

    def argument(self, input: Array) -> Argument:
        return Argument(input, self._over(input))

    def forward(self, input: Array) -> Array:
        m = continued.largest(input, self._over(input))
        return self._shaped(m + np.log(np.exp(input - m).sum(axis=self._over(input), keepdims=True)), input)

    def _shares(self, input: Array) -> Array:
        e = np.exp(input - input.max(axis=self._over(input), keepdims=True))
        return e / e.sum(axis=self._over(input), keepdims=True)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restored(gradient, input) * self._shares(input),)

    def rounding(self, output: Array, input: Array) -> Rounding:
        largest = input.max(axis=self._over(input), keepdims=True)
        # An exponential is off relatively by what its argument is off by, and by that of the library.
        carried = (self._shares(input) * (largest - input + 2)).sum(axis=self._over(input), keepdims=True)
        size_ = self._shaped(carried, input) + math.sqrt(self._count(input))
        return Rounding(np.abs(output) + size_, 1)

    def forward_with_errors(self, errors: Errors, *inputs: Any) -> Array:
        """Add errors: y = m + log S by no more than log S, since m is a number.

        The sum is rounded once to a number, by u abs(y) at most, which `ONE_ROUNDING` stands for.
        """
        (input,) = inputs
        output = self.forward(input)
        # Not y - m, which is 0 where y is rounded to m.
        shares = np.exp(input - input.max(axis=self._over(input), keepdims=True))
        logarithm = self._shaped(np.log(shares.sum(axis=self._over(input), keepdims=True)), input)
        size_ = self.rounding(output, input).magnitude - np.abs(output)
        output = errors(output, ONE_ROUNDING * np.abs(output), most=logarithm)
        return errors(output, size_, most=logarithm)

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: p = exp(x - y), of the y that was rounded, is off by u p (abs(x - y) + 3) for each element."""
        (input,) = inputs
        argument = input - self._restored(output, input)
        p = np.exp(argument)
        g = self._restored(gradient, input)
        return (errors(g * p, np.abs(g) * (p * (np.abs(argument) + 3) + errors.flush)),)

    @mutant
    def not_normalised(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The exponentials were not divided by their sum."""
        return (self._restored(gradient, input) * np.exp(input),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.logsumexp(input, self._torch_dim(input), self.keepdim)


@op("vector_norm")
class VectorNorm(Reduction):
    """y = (sum abs(x)^p)^(1/p) with p = ord: dL/dx = g sign(x) (abs(x) / y)^(p-1), 0 where x or y = 0.

    For p = 1 that is g sign(x); for p = inf (max abs) and -inf (min abs) g sign(x) at the elements that attain it, in
    equal parts. For p = 0 y is how many elements are not 0, and dL/dx = 0.
    """

    passes = 6
    ord: float | Literal["inf", "-inf", "Infinity", "-Infinity"] = 2
    dim: Dims = None
    keepdim: bool = False

    cases = (
        Case(((3, 4),)),
        Case(((2, 3, 4),), {"dim": 1, "ord": 1}),
        Case(((2, 3, 4),), {"dim": [0, -1], "keepdim": True, "ord": 3}),
        Case(((2, 5),), {"dim": 1, "ord": "inf"}),
    )

    @property
    def _p(self) -> float:
        return float(self.ord)

    @property
    def power(self) -> float:
        return length.power(self._p)

    def branch(self, input: Array) -> Array:
        """Sign of each element, and in the extreme norms its share; in smooth ones the size of its vector."""
        if self._p in (0, 1):
            return np.sign(input)
        return np.sign(input) * self._attained(input) if np.isinf(self._p) else length.piece(input, self._over(input))

    def branch_beside(self, own: Array, *inputs: Any) -> Array:
        (x,) = inputs
        return length.piece_beside(own, x, self._over(x)) if -np.inf < self._p < 0 else self.branch(x)

    def choices(self, off: Sequence[Array | None], input: Array) -> Choices | None:
        """The unit ball of the dual norm for a vector that is 0, and what follows from it for p = 1 and inf.

        Of p < 0, which is 0 wherever an element is, it is what a smallest size may hand back, of any element that is 0.
        Of 0 < p < 1 derivatives grow beyond all bounds beside 0, and there is no such set; of p = 0 there is nothing.
        """
        assert off[0] is not None
        reach = np.broadcast_to(off[0], input.shape)
        if self._p == np.inf:
            return self._attaining(reach, input, (1.0, -1.0), self._attained(input), input)
        outputs, x = self._outputs(input), input[0].ravel()
        near = np.abs(x) <= reach[0].ravel()
        if self._p == 1:
            places = np.flatnonzero(near)
            share = (1 + np.sign(x[places])) / 2
            return between(outputs[places], share, x[places] == 0, [(0, places, -1.0)], [(0, places, 1.0)])
        if self._p < 1:
            return self._of_smallest(reach, input) if self._p < 0 else None
        whole = np.bincount(outputs, near) == np.bincount(outputs)
        places = np.flatnonzero(whole[outputs])
        places = places[np.argsort(outputs[places], kind="stable")]
        (own,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert own is not None
        of = outputs[places]
        return one_of(of, of, places, own.ravel()[places], x[places] == 0, ball=self._p / (self._p - 1))

    def _of_smallest(self, reach: Array, input: Array) -> Choices | None:
        """Weights that sum to one of the elements that attain the smallest size, and of p > -inf are 0, with signs.

        Of an element that is 0 with both signs, which share what the backward pass gives to neither.
        """
        (own,) = self.backward(np.ones_like(self.forward(input)), self.forward(input), input)
        assert own is not None
        sizes, outputs, x, share = np.abs(input), self._outputs(input), input[0].ravel(), own[0].ravel()
        least = np.min(sizes + reach, axis=self._over(input), keepdims=True) if np.isinf(self._p) else 0.0
        zero, near = ((sizes - reach <= each)[0].ravel() for each in (0.0, least))
        elements, which = np.nonzero(near[:, None] & np.stack([(x > 0) | zero, (x < 0) | zero], axis=1))
        order = np.argsort(outputs[elements], kind="stable")
        elements, which = elements[order], which[order]
        of, signs, both = outputs[elements], np.array([1.0, -1.0])[which], zero[elements]
        taken = np.maximum(share[elements] * signs, 0)
        counts, total = np.bincount(of, both, int(outputs.max()) + 1), np.bincount(of, taken, int(outputs.max()) + 1)
        weights = taken + both * np.maximum(1 - total, 0)[of] / np.maximum(counts, 1)[of]
        smallest = sizes == (np.min(sizes, axis=self._over(input), keepdims=True) if np.isinf(self._p) else 0.0)
        return one_of(of, of, elements, weights, smallest[0].ravel()[elements], signs)

    def _attained(self, input: Array) -> Array:
        absolute = np.abs(input)
        extreme = np.max if self._p > 0 else np.min
        attained = absolute == extreme(absolute, axis=self._over(input), keepdims=True)
        return attained / attained.sum(axis=self._over(input), keepdims=True)

    def along(self, branch: Array, input: Array) -> Array:
        if self._p == 0:
            return self._counted(branch, input)
        if np.isinf(self._p) or self._p == 1:
            return self._shaped((input * branch).sum(axis=self._over(input), keepdims=True), input)
        return self._shaped(length.norm_along(self._p, branch, input, self._over(input)), input)

    def _counted(self, elements: Array, input: Array) -> Array:
        """How many elements are not 0."""
        return self._shaped((elements != 0).sum(axis=self._over(input), keepdims=True), input).astype(input.dtype)

    def forward(self, input: Array) -> Array:
        if self._p == 0:
            return self._counted(input, input)
        absolute = np.abs(input)
        if np.isinf(self._p):
            extreme = np.max if self._p > 0 else np.min
            return self._shaped(extreme(absolute, axis=self._over(input), keepdims=True), input)
        return self._shaped(length.norm(self._p, absolute, self._over(input)), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g = self._restored(gradient, input)
        if np.isinf(self._p):
            return (g * (np.sign(input) * self._attained(input)).astype(g.dtype),)
        if self._p in (0, 1):
            return (g * np.sign(input) * input.dtype.type(self._p),)
        return (g * np.sign(input) * length.shares(self._p, np.abs(input), self._over(input)),)

    def rounding(self, output: Array, input: Array) -> Rounding:
        if np.isinf(self._p) or self._p == 0:
            return Rounding(np.abs(output), 1)
        return Rounding(np.abs(output) * length.root_size(self._p, output), length.terms(self._p, self._count(input)))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(gradient, output, input)
        assert by_input is not None
        if not np.isfinite(self._p) or self._p == 0:
            return (Rounding(np.abs(by_input), 8),)
        root = length.root_size(self._p, self._restored(output, input))
        return (Rounding(np.abs(by_input) * (1 + abs(self._p - 1) * root), 8),)

    @mutant
    def not_divided_by_the_norm(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was not divided by the norm."""
        return (self._restored(gradient, input) * input,)

    def twin(self, torch: Any, input: Any) -> Any:
        over = self._torch_dim(input)
        if np.isinf(self._p) or self._p in (0, 1):
            return torch.linalg.vector_norm(input, self._p, over, self.keepdim)
        unit = length.unit_of(torch, input, self._p, over)
        found = torch.linalg.vector_norm(input / unit, self._p, over, keepdim=True) * unit
        return found if self.keepdim else found.reshape(torch.linalg.vector_norm(input.detach(), 2, over).shape)


@op("cumsum")
class Cumsum(Op):
    """y_i = sum_{j <= i} x_j along one axis: dL/dx_j = sum_{i >= j} g_i, the same sum from the other end."""

    dim: int

    inputs = ("input",)
    analytic = True
    linear_in = MappingProxyType({"input": ()})
    cases = (Case(((3, 4),), {"dim": 1}), Case(((2, 3, 4),), {"dim": -2}), Case(((5,),), {"dim": 0}))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        return of_input if of_input.ndim == 1 else np.minimum.accumulate(of_input, axis=self._along(of_input))

    def output_shape(self, input: Shape) -> Shape:
        axis(self.dim, len(input))
        return input

    def _along(self, array: Array) -> int:
        return axis(self.dim, array.ndim - 1) + 1

    def forward(self, input: Array) -> Array:
        return np.cumsum(input, axis=self._along(input)) if input.ndim > 1 else input

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        if input.ndim == 1:
            return (gradient,)
        along = self._along(input)
        return (np.flip(np.cumsum(np.flip(gradient, along), axis=along), along),)

    def _length(self, input: Array) -> int:
        return input.shape[self._along(input)] if input.ndim > 1 else 1

    def rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), self._length(input))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, self._length(input)),)

    @mutant
    def from_the_front(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sum was taken from the front instead of from the end."""
        return (self.forward(gradient),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.cumsum(input, self.dim)
