import numpy as np
import pytest

from service.numerics.faults import BACKWARD, FAULTS, catalogue, planted
from service.numerics.faults.planting import shows
from service.numerics.ops import REGISTRY
from tests.candidates import preset


def scene_and_names():
    worked = preset("conv_tanh_scale_sigmoid")
    return worked.scene(), worked.problem.names


def test_the_catalogue_has_the_bugs_of_gradients_of_the_backward_pass_and_of_ops():
    of_ops = {mutant.fault for op in REGISTRY.values() for mutant in op.mutants.values()}
    assert set(catalogue()) == {*FAULTS, *BACKWARD, *of_ops}
    assert catalogue()["sign_flipped"] == FAULTS["sign_flipped"].signature


def test_every_bug_that_is_planted_is_in_the_catalogue_and_shows():
    scene, names = scene_and_names()
    found = list(planted(scene, names))
    assert len({each.fault for each in found}) > 20
    for each in found:
        assert each.fault in catalogue()
        assert set(each.candidate) <= set(names)
        if each.fault != "low_precision":
            assert all(shows(gradient, scene.right(name)) for name, gradient in each.candidate.items())


@pytest.mark.parametrize("bug", ["transposed", "missing_activation_derivative", "detached"])
def test_of_one_bug_nothing_but_that_is_planted(bug):
    scene, names = scene_and_names()
    one = list(planted(scene, names, bug))
    assert {each.fault for each in one} == {bug}
    assert [each.text for each in one] == [each.text for each in planted(scene, names) if each.fault == bug]


def test_what_shows_is_of_another_shape_or_far_off_or_no_number():
    right = np.array([1.0, -2.0])
    assert not shows(right, right)
    assert not shows(right * (1 + 1e-5), right)
    assert shows(right * 1.001, right)
    assert shows(right[:1], right)
    assert shows(np.array([np.nan, -2.0]), right)
