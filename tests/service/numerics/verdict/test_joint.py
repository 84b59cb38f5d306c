import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients.finite_difference import JointDifference
from service.numerics.verdict.joint import JudgedGradients, LineJudge
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import sample_joint_direction
from tests import problem_families
from tests.joint_lines import compute_point, differentiate_line

FP64 = PRECISIONS["FP64"]
SHAPES = {"w": (5, 7), "b": (5,), "s": ()}
NORMS = {"w": 1.0, "b": 1e-6, "s": 1e4}
BOUND = 1e-9


def draw_gradients(seed=0):
    """Gradients of some tensors, of very different size."""
    generator = np.random.default_rng(seed)
    drawn = {name: np.asarray(generator.normal(size=shape)) for name, shape in SHAPES.items()}
    return {name: NORMS[name] * gradient / np.linalg.norm(gradient) for name, gradient in drawn.items()}


GRADIENTS = draw_gradients()


def draw_lines(gradients, count=1, seed=0, bound=BOUND, error=0.0):
    """Differences along joint directions in which each tensor has the share 1, off by parts of their bound."""
    lines = []
    for number in range(count):
        directions = {name: sample_joint_direction(number, SHAPES[name], seed, name) for name in SHAPES}
        scales = {name: 2.0 ** np.floor(np.log2(1 / NORMS[name])) for name in SHAPES}
        value = sum(scales[name] * float(np.vdot(directions[name], gradients[name])) for name in SHAPES)
        lines.append(JointDifference(directions, scales, value + error * bound, bound, 6))
    return lines


def make_judge(lines, candidates=None, own=None, base=None, precision=FP64):
    base, candidates = base or GRADIENTS, candidates or {}
    own = own or {name: {"analytic": base[name], "autograd": base[name] * (1 + 1e-15)} for name in SHAPES}
    judged = {
        name: JudgedGradients(own[name], {"candidate": candidates[name]} if name in candidates else {}, precision)
        for name in SHAPES
    }
    return LineJudge(lines, base, judged)


def test_right_gradients_pass_with_what_a_pass_is_worth():
    verdicts = make_judge(draw_lines(GRADIENTS)).find_passing()
    assert set(verdicts) == set(SHAPES)
    for name, verdict in verdicts.items():
        assert (verdict.outcome, verdict.is_joint, len(verdict.direction_results)) == (Outcome.PASS, True, 1), name
        assert verdict.smallest_detectable_error == verdict.detection_limit.relative_l2 < 1e-5
        assert verdict.detection_limit.probability <= 1e-3
        assert "1 random direction of all tensors together" in verdict.reason


def test_more_directions_find_smaller_errors():
    one, four = (make_judge(draw_lines(GRADIENTS, count)).find_passing() for count in (1, 4))
    for name in SHAPES:
        assert four[name].detection_limit.relative_l2 < 1e-2 * one[name].detection_limit.relative_l2


@pytest.mark.parametrize("wrong", [("w",), ("b",), ("s",), ("w", "b"), ("w", "b", "s")])
@pytest.mark.parametrize("factor", [1 + 1e-4, -1.0, 0.0])
def test_wrong_candidates_are_told_by_subtraction(wrong, factor):
    candidates = {name: GRADIENTS[name] * (factor if name in wrong else 1) for name in SHAPES}
    judge = make_judge(draw_lines(GRADIENTS), candidates)
    assert set(judge.find_passing()) == set(SHAPES) - set(wrong)
    (result,) = judge.list_results()
    assert (result.outcome, result.source) == (Outcome.INCONCLUSIVE, "candidate")


def test_a_candidate_that_is_not_finite_does_not_pass():
    for number in (np.nan, np.inf):
        candidate = GRADIENTS["w"].copy()
        candidate[1, 2] = number
        judge = make_judge(draw_lines(GRADIENTS), {"w": candidate})
        assert set(judge.find_passing()) == {"b", "s"}
        assert judge.list_results()[0].outcome == Outcome.INCONCLUSIVE


def test_nothing_passes_beside_a_wrong_gradient_of_our_own():
    """The reference of each tensor has the error of all others in it."""
    base = GRADIENTS | {"b": GRADIENTS["b"] * 1.001}
    judge = make_judge(draw_lines(GRADIENTS), base=base)
    assert judge.find_passing() == {}
    assert judge.list_results()[0].outcome == Outcome.INCONCLUSIVE


def test_a_tensor_of_which_our_own_sources_disagree_does_not_pass():
    own = {name: {"analytic": GRADIENTS[name], "autograd": GRADIENTS[name]} for name in SHAPES}
    own["b"]["autograd"] = GRADIENTS["b"] * 1.001
    right = dict(GRADIENTS)
    assert set(make_judge(draw_lines(GRADIENTS), right, own=own).find_passing()) == {"w", "s"}


def test_a_tensor_without_a_gradient_or_below_the_bound_is_not_decided():
    zero = GRADIENTS | {"b": np.zeros(SHAPES["b"])}
    assert set(make_judge(draw_lines(zero), base=zero).find_passing()) == {"w", "s"}
    small = GRADIENTS | {"b": GRADIENTS["b"] * 1e-7}
    assert set(make_judge(draw_lines(small), base=small).find_passing()) == {"w", "s"}


def test_gradients_of_a_narrower_arithmetic_are_not_decided():
    assert make_judge(draw_lines(GRADIENTS), precision=PRECISIONS["FP32"]).find_passing() == {}


def test_a_wide_bound_decides_nothing():
    assert make_judge(draw_lines(GRADIENTS, bound=1e-3)).find_passing() == {}


def test_error_of_the_difference_within_its_bound_changes_no_verdict():
    for error in (-0.99, 0.99):
        assert set(make_judge(draw_lines(GRADIENTS, error=error)).find_passing()) == set(SHAPES)
    assert make_judge(draw_lines(GRADIENTS, error=1.01)).find_passing() == {}, "a negative control"


TRIALS = 1000


@pytest.mark.trial
@pytest.mark.no_cover
@pytest.mark.parametrize("error", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("count", [1, 2])
def test_error_of_the_stated_size_is_missed_as_seldom_as_stated(count, error):
    """Errors of exactly the size that a report names, in one tensor, whatever the difference is off by."""
    missed = 0
    off = np.random.default_rng(7).normal(size=SHAPES["w"])
    off /= np.linalg.norm(off)
    for seed in range(TRIALS):
        lines = draw_lines(GRADIENTS, count, seed, error=0.99 * error)
        stated = make_judge(lines).find_passing()["w"].detection_limit
        wrong = GRADIENTS["w"] + stated.relative_l2 * NORMS["w"] * off
        missed += "w" in make_judge(lines, {"w": wrong}).find_passing()
    # Five and more of a thousand come with a probability of 0.004 where one is expected.
    assert missed <= 5


@pytest.mark.trial
def test_much_smaller_errors_are_missed():
    """A negative control: what is stated is not a thousand times too large."""
    off = np.random.default_rng(7).normal(size=SHAPES["w"])
    missed = 0
    for seed in range(50):
        lines = draw_lines(GRADIENTS, 1, seed)
        stated = make_judge(lines).find_passing()["w"].detection_limit
        wrong = GRADIENTS["w"] + stated.relative_l2 / 3000 * NORMS["w"] * off / np.linalg.norm(off)
        missed += "w" in make_judge(lines, {"w": wrong}).find_passing()
    assert missed > 25


@pytest.mark.parametrize("family", ["reference S1", "mlp", "softmax", "layer_norm", "transformer"])
def test_planted_errors_of_real_models_are_attributed(family):
    problem = problem_families.draw_problem(family, "ordinary", 1)
    point = compute_point(problem.graph, problem.leaves)
    line = differentiate_line(problem.graph, point, problem.names, 1)
    assert line is not None
    base = {name: point.gradients[name][0] for name in problem.names}
    for wrong in problem.names:
        judged = {
            name: JudgedGradients(
                {"analytic": base[name]}, {"candidate": base[name] * (1.001 if name == wrong else 1)}, FP64
            )
            for name in problem.names
        }
        assert set(LineJudge([line], base, judged).find_passing()) == set(problem.names) - {wrong}
