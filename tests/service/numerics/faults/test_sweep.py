"""Many wrong backward passes in one sweep are what they are one by one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.numerics.faults.diagnosis import alterations_of
from service.numerics.faults.scene import Scene
from service.numerics.faults.sweep import Affordable, gradients_of
from service.numerics.models import PRESETS
from service.numerics.ops.op import CALL, Gradients
from tests.candidates import preset


def _altered(node: Any, wrong: Any, gradient: Any, output: Any, *inputs: Any) -> Gradients:
    """A backward pass that makes its wrong results of its right ones."""
    right = node.op.backward(gradient, output, *inputs)
    changed = wrong(right, gradient, output, *inputs)
    return tuple(
        None if each is None else 0 * each if new is None else new for each, new in zip(right, changed, strict=True)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_together_is_as_one_by_one(name: str) -> None:
    scene, names = preset(name).scene(), preset(name).problem.names
    nodes = {node.name: node for node in scene.graph.nodes}
    alterations = list(alterations_of(scene, names))[::3]
    for together, made in gradients_of(scene.graph, scene.values, alterations, names):
        for tile, alteration in enumerate(together):
            override = {each: partial(_altered, nodes[each], wrong) for each, wrong in alteration.overrides.items()}
            alone = scene.graph.reverse(scene.values, override)
            for each in names:
                scale = np.abs(alone[each]).max(initial=0)
                np.testing.assert_allclose(made[each][tile], alone[each][0], rtol=1e-9, atol=1e-12 * scale)


def _counted(scene: Scene, most: int, names: Sequence[str]) -> tuple[Affordable, int, int]:
    """What is given of all alterations, how many calls they made, and how many alterations there were."""
    calls, given = 0, 0
    affordable = Affordable(scene.graph, alterations_of(scene, names), most)

    of_node = {node.name: scene.graph.cost([node]).calls for node in scene.graph.nodes}

    def counting(name: str, wrong: Any, *arrays: Any) -> Gradients:
        nonlocal calls
        calls += of_node[name]
        return wrong(*arrays)

    alterations = (
        replace(each, overrides={name: partial(counting, name, wrong) for name, wrong in each.overrides.items()})
        for each in affordable
    )
    for together, _ in gradients_of(scene.graph, scene.values, alterations, names):
        calls += sum(of_node.values())
        given += len(together)
    return affordable, calls, given


@pytest.mark.parametrize("name", PRESETS)
def test_the_work_of_sweeps_is_that_of_their_calls(name: str) -> None:
    scene, names = preset(name).scene(), preset(name).problem.names
    affordable, calls, given = _counted(scene, 2**62, names)
    assert given == len(list(alterations_of(scene, names)))
    assert not affordable.left_out
    # A backward pass makes some more calls than a forward one; the rest is the work in the tiles.
    assert CALL * calls <= affordable.work <= 3 * CALL * calls + given * (7 * scene.graph.cost().work)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_no_more_work_is_taken_than_is_allowed_and_something_is_always_tried(part: float) -> None:
    scene, names = preset("lstm_step").scene(), preset("lstm_step").problem.names
    whole, _, every = _counted(scene, 2**62, names)
    some, _, given = _counted(scene, int(part * whole.work), names)
    assert some.left_out
    assert 1 <= given < every
    assert some.work <= part * whole.work or given == 1
    assert _counted(scene, int(part * whole.work), names)[1:] == _counted(scene, int(part * whole.work), names)[1:]


def test_many_small_nodes_are_no_reason_to_leave_anything_out() -> None:
    """Of T alterations that are swept together a call of a node is shared by all."""
    scene, names = preset("lstm_step").scene(), preset("lstm_step").problem.names
    affordable, _, given = _counted(scene, 2**62, names)
    assert affordable.work < given * 3 * scene.graph.cost().at_once / 2
