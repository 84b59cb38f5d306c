"""Bugs of the sum over a batch: shares of samples that are lost, or that count twice."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from service.numerics.faults.fault import Alteration, OnTheWayBack, on_the_way_back
from service.numerics.faults.scene import Scene
from service.numerics.graph import Node
from service.numerics.ops.conv import Convolution
from service.numerics.ops.op import Gradients
from service.numerics.tiles import Array

_MOST = 8
"""Samples of which each is tried; of more the first and the last."""

Part = tuple[tuple[int | slice, ...], str]
"""An index behind the tile axis, and what is there in words."""

_ALL = slice(None)


@on_the_way_back
class OneSampleOnly(OnTheWayBack):
    """Of the samples of a batch one counts alone."""

    name: ClassVar[str] = "last_sample_only"
    signature: ClassVar[str] = "c = one sample's share"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        for node, positions in _places(scene, names):
            for part, words in _parts(scene, node):
                text = partial(_only_text, scene, node, words)
                wrong = partial(_weighed, node, part, (0, 1), positions)
                yield Alteration(self.name, {node.name: wrong}, text)


def _only_text(scene: Scene, node: Node, words: str) -> str:
    where = f"{scene.shown(node.name)} ({node.op.name})"
    return f"only the {words} that pass through {where} counted, where their shares have to be added up"


def counted_twice(scene: Scene, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """What makes the last sample count twice, as a loop that goes too far does, and that in words."""
    for node, positions in _places(scene, names):
        samples = _samples(scene, node)
        if samples > 1:
            wrong = partial(_weighed, node, (samples - 1,), (1, 2), positions)
            where = f"{scene.shown(node.name)} ({node.op.name})"
            yield {node.name: wrong}, f"the last of the {samples} samples in {where} counted twice"


def _places(scene: Scene, names: Sequence[str]) -> Iterator[tuple[Node, tuple[int, ...] | None]]:
    """Nodes at which samples may be lost, and of which operands: of all, or of one that others use too."""
    uses = [use for name in names for use in scene.uses(name)]
    before_loss = [each for each in scene.graph.nodes[-1].sources if each not in scene.graph.kinds]
    nodes = {node.name: node for node, _ in (*uses, *(use for each in before_loss for use in scene.uses(each)))}
    yield from ((node, None) for node in nodes.values())
    for name in names:
        if len(scene.uses(name)) > 1:
            yield from ((node, (position,)) for node, position in scene.uses(name))


def _samples(scene: Scene, node: Node) -> int:
    """Length of the first axis of what a node puts out, or, where it ends the batch, of what it reads."""
    shape = scene.graph.shapes[node.name] or scene.graph.shapes[node.sources[0]]
    if isinstance(node.op, Convolution) and len(shape) < len(node.op.kernel_axes) + 2:
        return 1
    return shape[0] if shape else 1


def _which(sample: int, samples: int) -> str:
    return {0: "first", samples - 1: "last"}.get(sample, f"one at index {sample}")


def _parts(scene: Scene, node: Node) -> Iterator[Part]:
    """Samples, and where each of them is a row of places the places too, the likeliest first."""
    samples = _samples(scene, node)
    chosen = [samples - 1, 0, *(range(1, samples - 1) if samples <= _MOST else ())]
    for sample in chosen if samples > 1 else ():
        yield (sample,), f"{_which(sample, samples)} of the {samples} samples"
    shape = scene.graph.shapes[node.name]
    if len(shape) == 3 and shape[1] > 1 and not isinstance(node.op, Convolution):
        places = shape[1]
        yield (_ALL, places - 1), f"last of the {places} places of each sample"
        yield (_ALL, 0), f"first of the {places} places of each sample"
        yield (samples - 1, places - 1), f"last of the {samples * places} rows of all samples"


def _weighed(
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
        results = node.op.backward(_counted(gradient, part, weights), output, *inputs)
    else:
        samples = inputs[0].shape[1] if inputs[0].ndim > 1 else 0
        results = tuple(
            _counted(each, part, weights) if each is not None and each.ndim > 1 and each.shape[1] == samples else each
            for each in right
        )
    if positions is None:
        return results
    return tuple(results[at] if at in positions else each for at, each in enumerate(right))


def _counted(array: Array, part: tuple[int | slice, ...], weights: tuple[int, int]) -> Array:
    others, chosen = weights
    counted = others * array
    counted[(_ALL, *part)] = chosen * array[(_ALL, *part)]
    return counted
