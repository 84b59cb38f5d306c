"""Bugs of the sum over a batch: shares of samples that are lost, or that count twice."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, register_backward_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.conv import Convolution
from service.numerics.ops.op import Gradients

_MAX_SAMPLES_TRIED = 8
"""Samples of which each is tried; of more the first and the last."""

BatchPart = tuple[tuple[int | slice, ...], str]
"""An index behind the tile axis, and what is there in words."""

_ALL_INDICES = slice(None)


@register_backward_bug
class SingleSampleOnly(BackwardBug):
    """Of the samples of a batch one counts alone."""

    name: ClassVar[str] = "last_sample_only"
    signature: ClassVar[str] = "c = one sample's share"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        for node, positions in _iterate_batch_nodes(scene, names):
            for part, words in _iterate_batch_parts(scene, node):
                text = partial(_describe_only_sample, scene, node, words)
                wrong = partial(_run_backward_with_sample_weights, node, part, (0, 1), positions)
                yield BackwardOverride(self.name, {node.name: wrong}, text)


def _describe_only_sample(scene: DiagnosisContext, node: Node, words: str) -> str:
    where = f"{scene.format_name(node.name)} ({node.op.name})"
    return f"only the {words} that pass through {where} counted, where their shares have to be added up"


def iterate_double_counted_samples(
    scene: DiagnosisContext, names: Sequence[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """What makes the last sample count twice, as a loop that goes too far does, and that in words."""
    for node, positions in _iterate_batch_nodes(scene, names):
        samples = _count_samples(scene, node)
        if samples > 1:
            wrong = partial(_run_backward_with_sample_weights, node, (samples - 1,), (1, 2), positions)
            where = f"{scene.format_name(node.name)} ({node.op.name})"
            yield {node.name: wrong}, f"the last of the {samples} samples in {where} counted twice"


def _iterate_batch_nodes(
    scene: DiagnosisContext, names: Sequence[str]
) -> Iterator[tuple[Node, tuple[int, ...] | None]]:
    """Nodes at which samples may be lost, and of which operands: of all, or of one that others use too."""
    uses = [use for name in names for use in scene.uses_of(name)]
    before_loss = [each for each in scene.graph.nodes[-1].source_names if each not in scene.graph.leaf_kinds]
    nodes = {node.name: node for node, _ in (*uses, *(use for each in before_loss for use in scene.uses_of(each)))}
    yield from ((node, None) for node in nodes.values())
    for name in names:
        if len(scene.uses_of(name)) > 1:
            yield from ((node, (position,)) for node, position in scene.uses_of(name))


def _count_samples(scene: DiagnosisContext, node: Node) -> int:
    """Length of the first axis of what a node puts out, or, where it ends the batch, of what it reads."""
    shape = scene.graph.shapes[node.name] or scene.graph.shapes[node.source_names[0]]
    if isinstance(node.op, Convolution) and len(shape) < len(node.op.kernel_axes) + 2:
        return 1
    return shape[0] if shape else 1


def _describe_sample(sample: int, samples: int) -> str:
    return {0: "first", samples - 1: "last"}.get(sample, f"one at index {sample}")


def _iterate_batch_parts(scene: DiagnosisContext, node: Node) -> Iterator[BatchPart]:
    """Samples, and where each of them is a row of places the places too, the likeliest first."""
    samples = _count_samples(scene, node)
    chosen = [samples - 1, 0, *(range(1, samples - 1) if samples <= _MAX_SAMPLES_TRIED else ())]
    for sample in chosen if samples > 1 else ():
        yield (sample,), f"{_describe_sample(sample, samples)} of the {samples} samples"
    shape = scene.graph.shapes[node.name]
    if len(shape) == 3 and shape[1] > 1 and not isinstance(node.op, Convolution):
        places = shape[1]
        yield (_ALL_INDICES, places - 1), f"last of the {places} places of each sample"
        yield (_ALL_INDICES, 0), f"first of the {places} places of each sample"
        yield (samples - 1, places - 1), f"last of the {samples * places} rows of all samples"


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
    """Results where what comes in counts differently at a part of it; at the end of the batch, what goes on."""
    if output.ndim > len(part):
        results = node.op.backward(_weight_part(gradient, part, weights), output, *inputs)
    else:
        samples = inputs[0].shape[1] if inputs[0].ndim > 1 else 0
        results = tuple(
            _weight_part(each, part, weights)
            if each is not None and each.ndim > 1 and each.shape[1] == samples
            else each
            for each in right
        )
    if positions is None:
        return results
    return tuple(results[at] if at in positions else each for at, each in enumerate(right))


def _weight_part(array: Array, part: tuple[int | slice, ...], weights: tuple[int, int]) -> Array:
    others, chosen = weights
    counted = others * array
    counted[(_ALL_INDICES, *part)] = chosen * array[(_ALL_INDICES, *part)]
    return counted
