"""The screen of wrong backward passes: it leaves out none that matches, and most others."""

from dataclasses import replace

import numpy as np
import pytest

from service.numerics.diagnosis.batched_backward import iterate_overridden_gradients
from service.numerics.diagnosis.bugs.backward_paths import iterate_op_bugs
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.inject import is_visible
from service.numerics.diagnosis.screening import OverrideScreen
from tests.solved_problems import SolvedProblem


def solve_network(activation: str = "relu") -> SolvedProblem:
    """Two layers with a norm and an activation, some of whose inputs are 0, where relu has a kink."""
    generator = np.random.default_rng(7)
    x, w = generator.normal(size=(5, 3)), generator.normal(size=(4, 3))
    w[1] = 0
    nodes = [
        {"name": "z", "op": "linear", "inputs": ["x", "w"]},
        {"name": "a", "op": activation, "inputs": ["z"]},
        {"name": "n", "op": "layer_norm", "inputs": ["a", "gain"], "normalized_shape": 4},
        {"name": "u", "op": "linear", "inputs": ["n", "v"]},
        {"name": "b", "op": activation, "inputs": ["u"]},
        {"name": "loss", "op": "mse_loss", "inputs": ["b", "t"]},
    ]
    return SolvedProblem(
        {
            "tensors": {"x": x.tolist(), "t": generator.normal(size=(5, 2)).tolist()},
            "weights": {
                "w": w.tolist(),
                "gain": generator.normal(size=4).tolist(),
                "v": generator.normal(size=(2, 4)).tolist(),
            },
            "model": {"nodes": nodes},
        }
    )


def plant(context: DiagnosisContext, names: tuple[str, ...], noise: float = 0.0) -> tuple[int, int, int]:
    """Overrides that are planted one by one; those of them that the screen keeps; and those of others that it keeps."""
    overrides = [*iterate_op_bugs(context, names), *iterate_op_bugs(context, names, is_generated=True)]
    single_overrides = [override for override in overrides if len(override.wrong_backward_by_node) == 1]
    planted = kept = others = 0
    generator = np.random.default_rng(1)
    for override in overrides[:: max(1, len(overrides) // 12)]:
        for _, gradients in iterate_overridden_gradients(context.graph, context.values, [override], names):
            wrong = {name: gradients[name][0] * (1 + noise * generator.normal()) for name in names}
        suspects = [name for name in names if is_visible(wrong[name], context.get_right_gradient(name))]
        if not suspects or not all(np.isfinite(gradient).all() for gradient in wrong.values()):
            continue
        screen = OverrideScreen(replace(context, candidates=wrong), suspects, names)
        planted += 1
        kept += screen.may_match(override)
        others += sum(screen.may_match(other) for other in single_overrides[:20] if other is not override)
    return planted, kept, others


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_planted_bug_is_kept_and_most_others_are_left_out(activation: str) -> None:
    model = solve_network(activation)
    planted, kept, others = plant(model.build_context(), model.problem.names)
    assert planted > 5
    assert kept == planted
    assert others < 0.25 * 20 * planted


def test_candidate_of_few_digits_is_kept() -> None:
    model = solve_network("tanh")
    planted, kept, _ = plant(model.build_context(), model.problem.names, noise=1e-9)
    assert kept == planted


def test_wrong_tangent_screens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tangents that contradict the backward passes leave every override to the sweeps."""
    model = solve_network("tanh")
    context = model.build_context()
    names = model.problem.names
    wrong = {name: context.get_right_gradient(name) * 1.5 for name in names}
    differentiate = OverrideScreen._differentiate

    def double(self: OverrideScreen, *arguments: object) -> object:
        return 2 * differentiate(self, *arguments)  # type: ignore[arg-type, operator]

    monkeypatch.setattr(OverrideScreen, "_differentiate", double)
    screen = OverrideScreen(replace(context, candidates=wrong), names, names)
    overrides = [override for override in iterate_op_bugs(context, ["w"]) if "at a (" in override.describe_bug()]
    assert overrides
    assert all(map(screen.may_match, overrides))
