"""Images of patches that are added up where they overlap."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.element_moves import NO_ELEMENT
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair, to_pair
from service.numerics.ops.rounding_errors import Rounding
from service.numerics.ops.slices import Unfold


@register_op("fold")
class Fold(Op):
    """Sum of patches in an image: (B, C kh kw, L) or (C kh kw, L) becomes (B, C, H, W) or (C, H, W).

    The adjoint of unfold, with H, W = output_size. For all c, i, j, p, q, where the position lies in the image:
        y[c, p sh + i dh - ph, q sw + j dw - pw] += x[(c kh + i) kw + j, p ow + q]
    dL/dx is g unfolded: each element gets g of its position, 0 where it has none.
    """

    output_size: Positive | PositivePair
    kernel_size: Positive | PositivePair
    dilation: Positive | PositivePair = 1
    padding: NotNegative | NotNegativePair = 0
    stride: Positive | PositivePair = 1

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    examples = (
        OpExample(((2, 8, 6),), {"output_size": [3, 4], "kernel_size": 2}),
        OpExample(((6, 12),), {"output_size": [4, 5], "kernel_size": [3, 2], "padding": [1, 1], "stride": [2, 1]}),
    )

    @property
    def _unfolding(self) -> Unfold:
        return Unfold(kernel_size=self.kernel_size, dilation=self.dilation, padding=self.padding, stride=self.stride)

    def infer_output_shape(self, input: Shape) -> Shape:
        elements = count_elements(to_pair(self.kernel_size))
        if len(input) not in (2, 3) or input[-2] % elements:
            raise ShapeError(f"an input (B, C, L) or (C, L) with C a multiple of {elements}")
        image = to_pair(self.output_size)
        if input[-1] != (places := count_elements(self._unfolding.count_places(image))):
            raise ShapeError(f"{places} patches along the last axis")
        return (*input[:-2], input[-2] // elements, *image)

    def _list_targets(self, shape: Shape) -> Array:
        """Return the position in the image of each element, NO_ELEMENT for one outside, in the input's shape."""
        return self._unfolding.move(np.arange(count_elements(shape)).reshape(shape))

    def _join(self, input: Array, join: np.ufunc, identity: float) -> Array:
        shape = self.infer_output_shape(input.shape[1:])
        targets = self._list_targets(shape)
        is_inside = targets != NO_ELEMENT
        result = np.full((len(input), count_elements(shape)), identity, input.dtype)
        positions: Any = (slice(None), targets[is_inside])
        join.at(result, positions, input[:, is_inside])
        return result.reshape(len(input), *shape)

    def forward(self, input: Array) -> Array:
        return self._join(input, np.add, 0)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return self._join(labels, np.minimum, np.inf)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        targets = self._list_targets(output.shape[1:])
        flat = gradient.reshape(len(gradient), -1)
        return (np.where(targets != NO_ELEMENT, flat[:, np.maximum(targets, 0)], gradient.dtype.type(0)),)

    def _count_overlaps(self, shape: Shape) -> Array:
        """Return the number of elements that are added at each position of the image, flat."""
        targets = self._list_targets(shape)
        return np.bincount(targets[targets != NO_ELEMENT].ravel(), minlength=count_elements(shape))

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), int(self._count_overlaps(output.shape[1:]).max()))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[None]:
        return (None,)

    @declare_bug("the gradient was divided by the number of patches that overlap, as for their mean")
    def averaged_over_overlaps(self, gradient: Array, output: Array, input: Array) -> Gradients:
        counts = np.maximum(self._count_overlaps(output.shape[1:]), 1).reshape(output.shape[1:])
        return self.backward(gradient / counts, output, input)

    @declare_bug("the gradient was handed back in the order of the image")
    def not_unfolded(self, gradient: Array, output: Array, input: Array) -> Gradients:
        size = count_elements(input.shape[1:])
        rows = [np.resize(row, size) for row in gradient.reshape(len(gradient), -1)]
        return (np.stack(rows).reshape(len(gradient), *input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        size = to_pair(self.output_size)
        return torch.nn.functional.fold(input, size, self.kernel_size, self.dilation, self.padding, self.stride)
