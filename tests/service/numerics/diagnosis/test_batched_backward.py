"""Many wrong backward passes in one sweep are what they are one by one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from service.numerics.diagnosis.batched_backward import AffordableOverrides, iterate_overridden_gradients
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.diagnose import iterate_backward_overrides
from service.numerics.model.presets import PRESETS
from service.numerics.ops.op import WORK_PER_CALL, Gradients
from tests.solved_problems import solve_preset


def _apply_override(node: Any, wrong: Any, gradient: Any, output: Any, *inputs: Any) -> Gradients:
    """A backward pass that makes its wrong results of its right ones."""
    right = node.op.backward(gradient, output, *inputs)
    changed = wrong(right, gradient, output, *inputs)
    return tuple(
        None if result is None else 0 * result if new is None else new
        for result, new in zip(right, changed, strict=True)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_batched_overrides_equal_single_ones(name: str) -> None:
    scene, names = solve_preset(name).build_context(), solve_preset(name).problem.names
    nodes = {node.name: node for node in scene.graph.nodes}
    alterations = list(iterate_backward_overrides(scene, names))[::3]
    for together, made in iterate_overridden_gradients(scene.graph, scene.values, alterations, names):
        for tile, alteration in enumerate(together):
            override = {
                node_name: partial(_apply_override, nodes[node_name], wrong)
                for node_name, wrong in alteration.wrong_backward_by_node.items()
            }
            # Some wrong passes divide by zero, such as those with an inverted label or angle.
            with np.errstate(all="ignore"):
                alone = scene.graph.backward(scene.values, override)
            for tensor in names:
                scale = np.abs(alone[tensor]).max(initial=0, where=np.isfinite(alone[tensor]))
                np.testing.assert_allclose(made[tensor][tile], alone[tensor][0], rtol=1e-9, atol=1e-12 * scale)


def _count_override_calls(
    scene: DiagnosisContext, most: int, names: Sequence[str]
) -> tuple[AffordableOverrides, int, int]:
    """What is given of all alterations, how many calls they made, and how many alterations there were."""
    calls, given = 0, 0
    affordable = AffordableOverrides(scene.graph, iterate_backward_overrides(scene, names), most)

    of_node = {node.name: scene.graph.estimate_cost([node]).calls for node in scene.graph.nodes}

    def call_and_count(name: str, wrong: Any, *arrays: Any) -> Gradients:
        nonlocal calls
        calls += of_node[name]
        return wrong(*arrays)

    alterations = (
        replace(
            override,
            wrong_backward_by_node={
                name: partial(call_and_count, name, wrong) for name, wrong in override.wrong_backward_by_node.items()
            },
        )
        for override in affordable
    )
    for together, _ in iterate_overridden_gradients(scene.graph, scene.values, alterations, names):
        calls += sum(of_node.values())
        given += len(together)
    return affordable, calls, given


@pytest.mark.parametrize("name", PRESETS)
def test_work_of_sweeps_is_that_of_their_calls(name: str) -> None:
    scene, names = solve_preset(name).build_context(), solve_preset(name).problem.names
    affordable, calls, given = _count_override_calls(scene, 2**62, names)
    assert given == len(list(iterate_backward_overrides(scene, names)))
    assert not affordable.is_incomplete
    # A backward pass makes some more calls than a forward one; the rest is the work in the tiles.
    assert (
        WORK_PER_CALL * calls
        <= affordable.work_done
        <= 3 * WORK_PER_CALL * calls + given * (7 * scene.graph.estimate_cost().work)
    )


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9])
def test_overrides_stay_within_work_limit_and_include_at_least_one(part: float) -> None:
    scene, names = solve_preset("lstm_step").build_context(), solve_preset("lstm_step").problem.names
    whole, _, every = _count_override_calls(scene, 2**62, names)
    some, _, given = _count_override_calls(scene, int(part * whole.work_done), names)
    assert some.is_incomplete
    assert 1 <= given < every
    assert some.work_done <= part * whole.work_done or given == 1
    assert (
        _count_override_calls(scene, int(part * whole.work_done), names)[1:]
        == _count_override_calls(scene, int(part * whole.work_done), names)[1:]
    )


def test_small_nodes_leave_out_no_override() -> None:
    """Of T alterations that are swept together a call of a node is shared by all."""
    scene, names = solve_preset("lstm_step").build_context(), solve_preset("lstm_step").problem.names
    affordable, _, given = _count_override_calls(scene, 2**62, names)
    assert affordable.work_done < given * 3 * scene.graph.estimate_cost().total_work / 2
