"""Sorting, and the largest, smallest and middle elements along an axis, with their positions.

Each is an order of an axis, `ranks.py`, and a selection of the elements there, `ordered_selection.py`.
"""

from abc import abstractmethod
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

from service.numerics.core.batching import Shape, count_elements
from service.numerics.ops.axes import normalize_axis, reduce_shape
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.composite import Expansion, SeveralOutputsOp
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.ordered_selection import OrderedSelection
from service.numerics.ops.ranks import Argsort, FirstRanks, OneRank, Ordering, OrderSoFar


class OrderedValues(SeveralOutputsOp):
    """Elements in some order, `values`, and their positions along `dim`, `indices`."""

    dim: Any

    inputs = ("input",)
    output_names = ("values", "indices")
    output_kinds = MappingProxyType({"indices": "index"})
    examples: ClassVar[tuple[OpExample, ...]] = ()
    is_running: ClassVar[bool] = False
    """True if each result is of the elements up to it."""

    @abstractmethod
    def make_ordering(self, length: int) -> Ordering:
        """Return the order of an axis of a length."""

    def _get_dim(self, shape: Shape) -> int:
        return normalize_axis(self.dim, len(shape))

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        shape = step.get_shape(input)
        axis = self._get_dim(shape)
        order = self.make_ordering(shape[axis] if shape else 1)
        selection = OrderedSelection(dim=axis, order=order, is_running=self.is_running)
        return step.apply(order if output == "indices" else selection, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return getattr(torch, self.name)(input, dim=self.dim)


@register_op("topk")
class Topk(OrderedValues):
    """The k largest elements along `dim` in order, `values`, and their positions, `indices`.

    y[..., r, ...] = x[..., i_r, ...], so dL/dx is g at the chosen elements, and 0 at the others. Indices have no
    gradient. Among equal elements any may be taken.
    """

    k: Positive
    dim: int = -1
    largest: bool = True
    sorted: bool = True

    def make_ordering(self, length: int) -> Ordering:
        return FirstRanks(dim=self.dim, k=self.k, descending=self.largest)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.topk(input, self.k, self.dim, self.largest, True)


@register_op("sort")
class Sort(OrderedValues):
    """All elements along `dim` in order, `values`, and the positions that they come from, `indices`.

    y[..., r, ...] = x[..., i_r, ...], so dL/dx[..., i_r, ...] = g[..., r, ...]. Indices have no gradient. Equal
    elements may come in any order, unless it is stable.
    """

    dim: int = -1
    descending: bool = False
    stable: bool = False

    def make_ordering(self, length: int) -> Ordering:
        return Argsort(dim=self.dim, descending=self.descending, stable=self.stable)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sort(input, dim=self.dim, descending=self.descending, stable=self.stable)


class OneValue(OrderedValues):
    """The element of one rank along `dim`, and its position; without `dim`, the element alone of all."""

    keepdim: Any

    @property
    def has_several_outputs(self) -> bool:
        """Return whether there is a `dim`."""
        return self.dim is not None

    def list_outputs(self, *shapes: Any) -> tuple[str, ...]:
        """Return values and indices, or none without `dim`."""
        return self.output_names if self.has_several_outputs else ()

    @abstractmethod
    def find_rank(self, length: int) -> int:
        """Return the rank among so many elements, counted from the smallest."""

    def make_ordering(self, length: int) -> OneRank:
        if not length:
            raise ShapeError("an axis with elements")
        return OneRank(dim=self.dim, rank=self.find_rank(length))

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        shape = step.get_shape(input)
        if self.keepdim or not shape:
            return super().expand_output(step, output, input)
        axis = self._get_dim(shape)
        if output == "indices":
            return step.apply(replace(self.make_ordering(shape[axis]), keepdim=False), input)
        kept = super().expand_output(step, output, input)
        return step("reshape", kept, shape=list(reduce_shape(shape, (axis,), False)))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        function = getattr(torch, self.name)
        return function(input) if self.dim is None else function(input, self.dim, self.keepdim)


@register_op("max")
class Max(OneValue):
    """The largest element along `dim`, `values`, and its position, `indices`; without `dim`, that of all elements.

    dL/dx = g at the chosen element. Without `dim` it is in equal parts at several equal ones, as for `amax`. Indices
    have no gradient. The larger of two tensors is `maximum`.
    """

    dim: int | None = None
    keepdim: bool = False

    def find_rank(self, length: int) -> int:
        return length - 1

    def expand(self, step: Expansion, input: str) -> str:
        return step("amax", input)


@register_op("min")
class Min(OneValue):
    """The smallest element along `dim`, `values`, and its position, `indices`; without `dim`, that of all elements.

    dL/dx = g at the chosen element. Without `dim` it is in equal parts at several equal ones, as for `amin`. Indices
    have no gradient. The smaller of two tensors is `minimum`.
    """

    dim: int | None = None
    keepdim: bool = False

    def find_rank(self, length: int) -> int:
        return 0

    def expand(self, step: Expansion, input: str) -> str:
        return step("amin", input)


@register_op("median")
class Median(OneValue):
    """The middle element along `dim`, `values`, and its position, `indices`; without `dim`, that of all elements.

    It has (n - 1) // 2 smaller ones among n elements: the lower of two middle ones. dL/dx = g at this element.
    Indices have no gradient.
    """

    dim: int | None = None
    keepdim: bool = False

    def find_rank(self, length: int) -> int:
        return (length - 1) // 2

    def expand(self, step: Expansion, input: str) -> str:
        count = count_elements(step.get_shape(input))
        if not count:
            raise ShapeError("an input with elements")
        flat = step("reshape", input, shape=[count])
        order = OneRank(dim=0, rank=self.find_rank(count))
        return step("reshape", step.apply(OrderedSelection(dim=0, order=order), flat), shape=[])


@register_op("kthvalue")
class Kthvalue(OneValue):
    """The k-th smallest element along `dim`, `values`, and its position, `indices`.

    dL/dx = g at this element. Indices have no gradient.
    """

    k: Positive
    dim: int = -1
    keepdim: bool = False

    def find_rank(self, length: int) -> int:
        if self.k > length:
            raise ShapeError(f"a k from 1 to {length}, the length of axis {self.dim}")
        return self.k - 1

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.kthvalue(input, self.k, self.dim, self.keepdim)


@register_op("aminmax")
class Aminmax(SeveralOutputsOp):
    """The smallest element along `dim`, `min`, and the largest, `max`; by default of all elements.

    dL/dx = g at that element, in equal parts at several equal ones.
    """

    dim: int | None = None
    keepdim: bool = False

    inputs = ("input",)
    positional = ("input",)
    output_names = ("min", "max")
    examples: ClassVar[tuple[OpExample, ...]] = ()

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        return step(f"a{output}", input, dim=self.dim, keepdim=self.keepdim)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.aminmax(input, dim=self.dim, keepdim=self.keepdim)


class RunningExtreme(OrderedValues):
    """The largest or smallest element so far, and its position."""

    is_running = True

    def make_ordering(self, length: int) -> Ordering:
        return OrderSoFar(dim=self.dim, largest=self.name == "cummax")


@register_op("cummax")
class Cummax(RunningExtreme):
    """The largest element along `dim` up to each, `values`, and its position, `indices`, the last of equal ones.

    y[..., p, ...] = max over q <= p of x[..., q, ...]. dL/dx sums g over the results that an element is. Indices
    have no gradient.
    """

    dim: int


@register_op("cummin")
class Cummin(RunningExtreme):
    """The smallest element along `dim` up to each, `values`, and its position, `indices`, the last of equal ones.

    y[..., p, ...] = min over q <= p of x[..., q, ...]. dL/dx sums g over the results that an element is. Indices
    have no gradient.
    """

    dim: int
