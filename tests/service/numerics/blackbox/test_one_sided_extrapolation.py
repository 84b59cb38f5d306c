import mpmath
import numpy as np
import pytest

from service.numerics.blackbox.one_sided_extrapolation import OneSidedSamples, extrapolate_one_sided

NODES = 2.0 ** -np.arange(3, 12)[None]
COARSE = np.array([[4.0, 3.5, 3.0, 2.0, 1.0]]) / 32


def make_samples(losses, nodes=NODES, noise=0.0, base=0.0, base_off=0.0):
    losses = np.atleast_2d(losses)
    nodes = np.broadcast_to(nodes, losses.shape)
    return OneSidedSamples(nodes, losses, np.full(losses.shape, noise), base, noise, np.full(len(losses), base_off))


@pytest.mark.parametrize("side", [1, -1])
def test_polynomials_in_the_step_are_exact(side):
    nodes = side * NODES
    extrapolation = extrapolate_one_sided(
        make_samples(1 + 3 * nodes - 2 * nodes**2 + 7 * nodes**3 + nodes**4, nodes, base=1.0)
    )
    assert abs(extrapolation.value[0] - 3) <= extrapolation.bound[0] < 1e-11


def test_bounds_cover_the_truth_of_many_digits():
    """By mpmath, of an analytic loss at nodes of no particular ratio: the bound is met, and not by far too wide."""
    with mpmath.workdps(40):
        nodes = [mpmath.mpf(n) / 37 for n in (9, 8, 6, 5, 3, 2, 1)]
        losses = [mpmath.exp(mpmath.sin(3 * t)) - 1 for t in nodes]
    extrapolation = extrapolate_one_sided(
        make_samples(np.array([float(loss) for loss in losses]), np.array([[float(node) for node in nodes]]))
    )
    assert abs(extrapolation.value[0] - 3) <= extrapolation.bound[0] < 0.05


def test_noise_of_points_and_base_is_carried_through_the_table():
    generator = np.random.default_rng(0)
    noise = 1e-6
    errors, deviations, bounds = [], [], []
    for _ in range(60):
        off = generator.normal(size=(50, NODES.size + 1)) * noise
        extrapolation = extrapolate_one_sided(make_samples(np.sin(NODES) + off[:, 1:] - off[:, :1], noise=noise))
        errors.append(np.abs(extrapolation.value - 1))
        deviations.append(extrapolation.deviation)
        bounds.append(extrapolation.bound)
    errors, deviations = np.concatenate(errors), np.concatenate(deviations)
    assert (errors <= np.concatenate(bounds)).all()
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.sqrt(np.mean(deviations**2)), rel=0.3)


def test_steps_that_lie_close_together_do_not_pass_for_settled():
    """A wave that turns within the steps: neighbours at 7/8 of each other agree while both are far off."""
    extrapolation = extrapolate_one_sided(make_samples(np.sin(40 * COARSE) / 40, COARSE))
    assert abs(extrapolation.value[0] - 1) <= extrapolation.bound[0]


def test_base_error_widens_the_bound_of_fine_steps():
    exact, off = (extrapolate_one_sided(make_samples(np.sin(NODES), base_off=value)) for value in (0.0, 1e-6))
    shifted = extrapolate_one_sided(make_samples(np.sin(NODES), base=1e-6, base_off=1e-6))
    assert exact.bound[0] < 1e-9 < off.bound[0]
    assert abs(shifted.value[0] - 1) <= shifted.bound[0] < 1e-3


def test_a_kink_between_the_steps_is_not_overlooked():
    for place in (0.1, 0.03, 0.002):
        extrapolation = extrapolate_one_sided(make_samples(NODES + np.maximum(NODES - place, 0)))
        assert abs(extrapolation.value[0] - 1) <= extrapolation.bound[0]


def test_nonfinite_losses_have_no_bound():
    with np.errstate(invalid="ignore"):
        assert extrapolate_one_sided(make_samples(np.full(NODES.shape, np.nan))).bound[0] == np.inf


UNITS = np.array([[4096.0, 3584, 3072, 2048, 1536, 1024, 768, 512, 256, 128, 45, 16, 4, 1]]) / 2**15
EDGES = {
    "a logarithm": (lambda t, d: np.log1p(t / d), lambda d: 1 / d),
    "a pole": (lambda t, d: d / (d + t) - 1, lambda d: -1 / d),
    "a root": (lambda t, d: np.sqrt(1 + t / d) - 1, lambda d: 0.5 / d),
}


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_an_edge_as_near_as_the_smallest_step_or_nearer_leaves_no_derivative_that_is_far_off(edge):
    """Where the edge is among the smallest steps the bound is wide, and indicates: four times it call nothing wrong."""
    loss, slope = edge
    distances = 10.0 ** np.arange(-12, 0, 0.05)
    extrapolation = extrapolate_one_sided(
        make_samples(np.array([loss(UNITS[0], d) for d in distances]), UNITS, noise=1e-16)
    )
    off, sizes = np.abs(extrapolation.value - slope(distances)), np.abs(slope(distances))
    assert (off <= 4 * extrapolation.bound).all()
    assert (off <= extrapolation.bound)[extrapolation.bound < 0.01 * sizes].all()
    assert np.isinf(extrapolation.bound[distances < UNITS.min() / 4]).all()


@pytest.mark.parametrize("often", [0.1, 1.0, 10.0, 30.0])
def test_a_smooth_loss_is_not_taken_to_be_apart_from_its_base(often):
    phases = np.arange(0, 2 * np.pi, 1e-3)[:, None]
    extrapolation = extrapolate_one_sided(
        make_samples(np.sin(often * UNITS + phases) - np.sin(phases), UNITS, noise=1e-16)
    )
    assert np.isfinite(extrapolation.bound).all()
    assert (np.abs(extrapolation.value - often * np.cos(phases[:, 0])) <= extrapolation.bound).all()
