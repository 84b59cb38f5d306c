"""Parts of a tensor along an axis, and moments in pairs: ops with several outputs that are compositions of others."""

from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Len

from service.numerics.core.batching import Shape
from service.numerics.ops.axes import AxisSelection, normalize_axis
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.composite import Expansion, SeveralOutputsOp
from service.numerics.ops.correction import choose_correction
from service.numerics.ops.op import OpExample, ShapeError, register_op

_MAX_PARTS = 1024
"""Parts that one node may have: each takes a step for itself."""


class Parts(SeveralOutputsOp):
    """Consecutive parts of an axis."""

    dim: int

    inputs = ("input",)
    examples: ClassVar[tuple[OpExample, ...]] = ()

    def list_lengths(self, length: int) -> list[int]:
        """Return the lengths of the parts of an axis of a length."""
        raise NotImplementedError

    def _list_axis_lengths(self, input: Shape) -> list[int]:
        if not input:
            raise ShapeError("an input with at least one axis")
        lengths = self.list_lengths(input[normalize_axis(self.dim, len(input))])
        if len(lengths) > _MAX_PARTS:
            raise ShapeError(f"at most {_MAX_PARTS} parts, not {len(lengths)}")
        return lengths

    def list_outputs(self, *shapes: Any) -> tuple[str, ...]:
        """Return a number for each part."""
        return tuple(map(str, range(len(self._list_axis_lengths(shapes[0])))))

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        lengths = self._list_axis_lengths(step.get_shape(input))
        number = int(output)
        if not lengths[number]:
            raise ShapeError(f"parts with elements; part {number} has none")
        return step("narrow", input, dim=self.dim, start=sum(lengths[:number]), length=lengths[number])


def divide_evenly(length: int, size: int) -> list[int]:
    """Return lengths of at most `size` that add up to a length; at least one."""
    return [min(size, length - start) for start in range(0, length, size)] or [0]


@register_op("split")
class Split(Parts):
    """Parts of an axis, of one length, the last maybe shorter, or of several lengths: `parts.0`, `parts.1`.

    dL/dx is g of each part in its place, and 0 where a part is not used.
    """

    split_size_or_sections: Positive | Annotated[list[Annotated[int, Ge(0)]], Len(1, _MAX_PARTS)]
    dim: int = 0

    def list_lengths(self, length: int) -> list[int]:
        if isinstance(self.split_size_or_sections, int):
            return divide_evenly(length, self.split_size_or_sections)
        if sum(self.split_size_or_sections) != length:
            raise ShapeError(
                f"lengths that add up to {length}, the length of axis {self.dim}, not {self.split_size_or_sections}"
            )
        return self.split_size_or_sections

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.split(input, self.split_size_or_sections, self.dim)


@register_op("chunk")
class Chunk(Parts):
    """At most `chunks` parts of an axis, of equal length, the last maybe shorter: `parts.0`, `parts.1` and so on.

    dL/dx is g of each part in its place, and 0 where a part is not used.
    """

    chunks: Positive
    dim: int = 0

    def list_lengths(self, length: int) -> list[int]:
        if not length:
            raise ShapeError("an axis with elements")
        return divide_evenly(length, -(-length // self.chunks))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.chunk(input, self.chunks, self.dim)


@register_op("unbind")
class Unbind(Parts):
    """Each position of an axis, without the axis: `parts.0`, `parts.1` and so on.

    dL/dx is g of each part in its place, and 0 where a part is not used.
    """

    dim: int = 0

    def list_lengths(self, length: int) -> list[int]:
        if not length:
            raise ShapeError("an axis with elements")
        return [1] * length

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        self._list_axis_lengths(step.get_shape(input))
        return step("select", input, dim=self.dim, index=int(output))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.unbind(input, self.dim)


class Moments(SeveralOutputsOp):
    """A spread over the axes `dim`, as the first output, and the mean, as the second."""

    dim: AxisSelection = None
    correction: float | None = 1
    keepdim: bool = False
    unbiased: bool | None = None

    inputs = ("input",)
    positional = ("input", "dim")
    output_names = ("0", "1")
    examples: ClassVar[tuple[OpExample, ...]] = ()
    spread_name: ClassVar[str]

    def expand_output(self, step: Expansion, output: str, input: str) -> str:
        if output == "1":
            return step("mean", input, dim=self.dim, keepdim=self.keepdim)
        correction = choose_correction(self.correction, self.unbiased)
        return step(self.spread_name, input, dim=self.dim, correction=correction, keepdim=self.keepdim)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        function = torch.var_mean if self.spread_name == "var" else torch.std_mean
        dim = None if self.dim == [] else self.dim
        correction = choose_correction(self.correction, self.unbiased)
        return function(input, dim, correction=correction, keepdim=self.keepdim)


@register_op("var_mean")
class VarMean(Moments):
    """Variance and mean over the axes `dim`: `m.0` and `m.1`.

    With m = sum x / N, dL/dx = 2 g0 (x - m) / (N - correction) + g1 / N.
    """

    dim: AxisSelection = None
    correction: float | None = 1
    keepdim: bool = False
    unbiased: bool | None = None

    spread_name = "var"


@register_op("std_mean")
class StdMean(Moments):
    """Standard deviation s and mean over the axes `dim`: `m.0` and `m.1`.

    With m = sum x / N, dL/dx = g0 (x - m) / (s (N - correction)) + g1 / N.
    """

    dim: AxisSelection = None
    correction: float | None = 1
    keepdim: bool = False
    unbiased: bool | None = None

    spread_name = "std"
