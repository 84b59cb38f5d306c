"""Bugs of the sum over a batch.

Shares of samples that are lost, or counted twice.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from service.numerics.core.batching import Array, count_elements
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, register_backward_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.convolution import Convolution
from service.numerics.ops.elementwise import UnaryOp
from service.numerics.ops.op import Gradients
from service.numerics.ops.shape import DataMovementOp

_MAX_SAMPLES_TRIED = 8
"""Samples of a batch of which each is tried; of a larger batch only the first and the last."""

BatchPart = tuple[tuple[int | slice, ...], str]
"""An index behind the tile axis, and its samples or places in words."""

_ALL_INDICES = slice(None)


@register_backward_bug
class SingleSampleOnly(BackwardBug):
    """A single sample of a batch that counts alone."""

    name: ClassVar[str] = "last_sample_only"
    signature: ClassVar[str] = "c = one sample's share"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each part of a batch that may count alone."""
        for node, positions in _iterate_batch_nodes(context, names):
            for part, words in _iterate_batch_parts(context, node):
                text = partial(_describe_only_sample, context, node, words)
                wrong_backward = partial(_run_backward_with_sample_weights, node, part, (0, 1), positions)
                yield BackwardOverride(self.name, {node.name: wrong_backward}, text)


def _describe_only_sample(context: DiagnosisContext, node: Node, words: str) -> str:
    location = context.describe_node(node)
    return f"only the {words} in {location} counted, and not the sum of all shares"


def iterate_double_counted_samples(
    context: DiagnosisContext, names: Sequence[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield overrides that count the last sample twice, with a clause for it.

    A loop that goes too far counts it twice.
    """
    for node, positions in _iterate_batch_nodes(context, names):
        samples = _count_samples(context, node)
        if samples > 1:
            wrong_backward = partial(_run_backward_with_sample_weights, node, (samples - 1,), (1, 2), positions)
            location = context.describe_node(node)
            yield {node.name: wrong_backward}, f"the last of the {samples} samples in {location} counted twice"


def _iterate_batch_nodes(
    context: DiagnosisContext, names: Sequence[str]
) -> Iterator[tuple[Node, tuple[int, ...] | None]]:
    """Yield nodes that may lose samples, with the positions concerned.

    The positions are None for all operands.
    """
    uses = [use for name in names for use in context.get_uses(name)]
    before_loss = [name for name in context.graph.nodes[-1].source_names if name not in context.graph.leaf_kinds]
    all_uses = (*uses, *(use for name in before_loss for use in context.get_uses(name)))
    nodes = {node.name: node for node, _ in all_uses if _sums_shares(context, node)}
    yield from ((node, None) for node in nodes.values())
    for name in names:
        if len(context.get_uses(name)) > 1:
            yield from ((node, (position,)) for node, position in context.get_uses(name))


def _sums_shares(context: DiagnosisContext, node: Node) -> bool:
    """Tell whether a node may sum shares; one that hands each share to an element of its own does not."""
    if not isinstance(node.op, UnaryOp | DataMovementOp):
        return True
    input_size = sum(count_elements(context.graph.shapes[name]) for name in node.source_names)
    return count_elements(context.graph.shapes[node.name]) > input_size


def _count_samples(context: DiagnosisContext, node: Node) -> int:
    """Count the samples.

    The length of the first axis of a node's output, or of its input if it ends the batch.
    """
    shape = context.graph.shapes[node.name] or context.graph.shapes[node.source_names[0]]
    if isinstance(node.op, Convolution) and len(shape) < len(node.op.kernel_axes) + 2:
        return 1
    return shape[0] if shape else 1


def _describe_sample(sample: int, samples: int) -> str:
    return {0: "first", samples - 1: "last"}.get(sample, f"one at index {sample}")


def _iterate_batch_parts(context: DiagnosisContext, node: Node) -> Iterator[BatchPart]:
    """Yield samples, and places of samples that are rows, the likeliest first."""
    samples = _count_samples(context, node)
    chosen_samples = [samples - 1, 0, *(range(1, samples - 1) if samples <= _MAX_SAMPLES_TRIED else ())]
    for sample in chosen_samples if samples > 1 else ():
        yield (sample,), f"{_describe_sample(sample, samples)} of the {samples} samples"
    shape = context.graph.shapes[node.name]
    if len(shape) == 3 and shape[1] > 1 and not isinstance(node.op, Convolution):
        place_count = shape[1]
        yield (_ALL_INDICES, place_count - 1), f"last of the {place_count} places of each sample"
        yield (_ALL_INDICES, 0), f"first of the {place_count} places of each sample"
        yield (samples - 1, place_count - 1), f"last of the {samples * place_count} rows of all samples"


def _run_backward_with_sample_weights(
    node: Node,
    part: tuple[int | slice, ...],
    weights: tuple[int, int],
    positions: tuple[int, ...] | None,
    right: Gradients,
    gradient: Array,
    output: Array,
    *inputs: Any,
) -> Gradients:
    """Run a backward pass with another weight on one part of the samples.

    The weight applies to the incoming gradient, or, at the node that ends the batch, to the outgoing one.
    """
    if output.ndim > len(part):
        results = node.op.backward(_weight_part(gradient, part, weights), output, *inputs)
    else:
        samples = inputs[0].shape[1] if inputs[0].ndim > 1 else 0
        results = tuple(
            _weight_part(result, part, weights)
            if result is not None and result.ndim > 1 and result.shape[1] == samples
            else result
            for result in right
        )
    if positions is None:
        return results
    return tuple(results[position] if position in positions else result for position, result in enumerate(right))


def _weight_part(array: Array, part: tuple[int | slice, ...], weights: tuple[int, int]) -> Array:
    other_weight, chosen_weight = weights
    weighted_array = other_weight * array
    weighted_array[(_ALL_INDICES, *part)] = chosen_weight * array[(_ALL_INDICES, *part)]
    return weighted_array
