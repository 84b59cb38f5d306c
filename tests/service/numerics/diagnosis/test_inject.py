import numpy as np
import pytest

from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.inject import describe_bugs, inject_bugs, is_visible
from service.numerics.ops import OP_REGISTRY
from tests.solved_problems import solve_preset


def build_context_and_names():
    worked = solve_preset("conv_tanh_scale_sigmoid")
    return worked.build_context(), worked.problem.names


def test_catalogue_lists_gradient_backward_and_op_bugs():
    of_ops = {mutant.bug_name for op in OP_REGISTRY.values() for mutant in op.bugs.values()}
    assert set(describe_bugs()) == {*GRADIENT_BUGS, *BACKWARD_BUGS, *of_ops}
    assert describe_bugs()["sign_flipped"] == GRADIENT_BUGS["sign_flipped"].signature


def test_injected_bugs_are_in_the_catalogue_and_visible():
    scene, names = build_context_and_names()
    injections = list(inject_bugs(scene, names))
    assert len({injection.bug_name for injection in injections}) > 20
    for injection in injections:
        assert injection.bug_name in describe_bugs()
        assert set(injection.candidates) <= set(names)
        if injection.bug_name != "low_precision":
            assert all(
                is_visible(gradient, scene.get_right_gradient(name)) for name, gradient in injection.candidates.items()
            )


@pytest.mark.parametrize("bug", ["transposed", "missing_activation_derivative", "detached"])
def test_injecting_one_bug_yields_only_that_bug(bug):
    scene, names = build_context_and_names()
    one = list(inject_bugs(scene, names, bug))
    assert {injection.bug_name for injection in one} == {bug}
    assert [injection.explanation for injection in one] == [
        injection.explanation for injection in inject_bugs(scene, names) if injection.bug_name == bug
    ]


def test_visible_candidate_differs_in_shape_or_value_or_is_nonfinite():
    right = np.array([1.0, -2.0])
    assert not is_visible(right, right)
    assert not is_visible(right * (1 + 1e-5), right)
    assert is_visible(right * 1.001, right)
    assert is_visible(right[:1], right)
    assert is_visible(np.array([np.nan, -2.0]), right)
