"""Many wrong backward passes in one sweep are what they are one by one."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from service.numerics.faults.diagnosis import alterations_of
from service.numerics.faults.sweep import gradients_of
from service.numerics.models import PRESETS
from service.numerics.ops.op import Gradients
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
