import numpy as np
import pytest

from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.inject import describe_bugs, inject_bugs, is_visible
from service.numerics.ops import OP_REGISTRY
from tests.solved_problems import solve_preset


def scene_and_names():
    worked = solve_preset("conv_tanh_scale_sigmoid")
    return worked.build_context(), worked.problem.names


def test_catalogue_lists_gradient_backward_and_op_bugs():
    of_ops = {mutant.bug_name for op in OP_REGISTRY.values() for mutant in op.bugs.values()}
    assert set(describe_bugs()) == {*GRADIENT_BUGS, *BACKWARD_BUGS, *of_ops}
    assert describe_bugs()["sign_flipped"] == GRADIENT_BUGS["sign_flipped"].signature


def test_injected_bugs_are_in_the_catalogue_and_visible():
    scene, names = scene_and_names()
    found = list(inject_bugs(scene, names))
    assert len({each.bug_name for each in found}) > 20
    for each in found:
        assert each.bug_name in describe_bugs()
        assert set(each.candidates) <= set(names)
        if each.bug_name != "low_precision":
            assert all(
                is_visible(gradient, scene.get_right_gradient(name)) for name, gradient in each.candidates.items()
            )


@pytest.mark.parametrize("bug", ["transposed", "missing_activation_derivative", "detached"])
def test_injecting_one_bug_yields_only_that_bug(bug):
    scene, names = scene_and_names()
    one = list(inject_bugs(scene, names, bug))
    assert {each.bug_name for each in one} == {bug}
    assert [each.explanation for each in one] == [
        each.explanation for each in inject_bugs(scene, names) if each.bug_name == bug
    ]


def test_visible_candidate_differs_in_shape_or_value_or_is_nonfinite():
    right = np.array([1.0, -2.0])
    assert not is_visible(right, right)
    assert not is_visible(right * (1 + 1e-5), right)
    assert is_visible(right * 1.001, right)
    assert is_visible(right[:1], right)
    assert is_visible(np.array([np.nan, -2.0]), right)
