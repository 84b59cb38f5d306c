"""Which gradients are 0, and which are hidden by rounding."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.checks.graph import model_language
from service.checks.graph.check import check
from service.numerics.core.batching import add_batch_axis
from service.numerics.verdict.zero_gradients import (
    Float64Recomputation,
    ZeroEvidence,
    compute_peer_magnitudes,
    find_zero_tolerance,
)

INF = np.inf


@pytest.mark.parametrize(
    ("analytic", "autograd", "sizes"),
    [
        ([3.0, -2.0], [3.0, -2.5], [3.0, 2.0]),  # beyond rounding: by the smaller
        ([3.0, 1e-17], [3.0 + 1e-12, 3e-18], [3.0, 0.0]),  # one element cancels
        ([2e-17, 1e-17], [-1e-17, 3e-18], [0.0, 0.0]),  # both do
        ([2e-17, 1e-17], [2e-17, 1e-17], [0.0, 0.0]),  # both do, rounded alike
        ([2e-17, 1e-17], [2e-17, 1e-17 + 1e-28], [2e-17, 1e-17]),  # small, as both say
        ([2e-19, 1e-30], [2e-19, 1e-30], [2e-19, 1e-30]),  # so small that to round alike would not do
        ([2e-38, 1e-38], [1e-59, 0.0], [2e-38, 1e-38]),  # so small that rounding would not do at all
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
        ([np.nan, 1.0], [1.0, 1.0], [0.0, 1.0]),
    ],
)
def test_sizes_are_not_made_by_rounding(analytic, autograd, sizes):
    magnitudes = compute_peer_magnitudes((np.array(analytic), np.array(autograd)), np.full(2, 1e-15), 2.0**-53)
    np.testing.assert_allclose(magnitudes, sizes, rtol=1e-9)


def make_chain(*lines: Any) -> list[dict[str, Any]]:
    return [{"name": name, "op": op, "inputs": inputs, **more} for name, op, inputs, more in lines]


SHIFT = make_chain(
    ("z", "add", ["x", "w"], {}),
    ("s", "softmax", ["z"], {"dim": -1}),
    ("p", "mul", ["s", "a"], {}),
    ("loss", "sum", ["p"], {}),
)
NORMALISED = make_chain(
    ("z", "add", ["x", "w"], {}),
    ("n", "layer_norm", ["z"], {"normalized_shape": [4]}),
    ("p", "mul", ["n", "a"], {}),
    ("loss", "sum", ["p"], {}),
)
PRODUCT = make_chain(("p", "mul", ["x", "w"], {}), ("loss", "sum", ["p"], {}))
SQUARED = make_chain(("z", "linear", ["x", "w"], {}), ("loss", "mse_loss", ["z", "a"], {}))
ATTENTION = make_chain(
    ("key", "add", ["k", "w"], {}),
    ("o", "scaled_dot_product_attention", ["q", "key", "v"], {}),
    ("loss", "mse_loss", ["o", "a"], {}),
)
GENERATOR = np.random.default_rng(0)
X, A = GENERATOR.normal(size=4), GENERATOR.normal(size=4)
Q, K, V, Y = GENERATOR.normal(size=(4, 3, 3))
ROWS = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.25]])
EXACT = ROWS @ np.array([2.0, -1.0])

NOTHING: dict[str, tuple[list[dict[str, Any]], dict[str, Any], Any]] = {
    "a shift of a softmax": (SHIFT, {"x": X, "a": A}, 0.3),
    "a bias before a normalisation": (NORMALISED, {"x": X, "a": A}, 0.3),
    "a bias of the keys": (ATTENTION, {"q": Q, "k": K, "v": V, "a": Y}, np.array([0.3, 0.0, -2.0])),
}
HERE = {
    "a sum that cancels": (PRODUCT, {"x": np.array([1e5, -1e5])}, 0.3),
    "a solution without a residual": (SQUARED, {"x": ROWS, "a": EXACT}, np.array([2.0, -1.0])),
    "what is switched off": (PRODUCT, {"x": np.zeros(2)}, np.array([1.0, 2.0])),
}
HIDDEN = {
    "a sum that nearly cancels": (PRODUCT, {"x": np.array([1e20, -1e20, 0.01])}, 0.3),
    "a solution up to rounding": (SQUARED, {"x": 0.1 * ROWS, "a": 0.1 * (ROWS @ [0.7, 0.1])}, np.array([0.7, 0.1])),
}


def build_evidence(lines: Any, leaves: Any, weight: Any) -> ZeroEvidence:
    body = {"tensors": {k: v.tolist() for k, v in leaves.items()}, "weights": {"w": np.asarray(weight).tolist()}}
    graph = model_language.build_graph(model_language.parse_check_request(body | {"model": {"nodes": lines}}))
    arrays = {name: add_batch_axis(np.asarray(values, np.float64)) for name, values in {**leaves, "w": weight}.items()}
    return Float64Recomputation(graph, arrays, ["w"], 0).collect_zero_evidence("w")


@pytest.mark.parametrize("case", NOTHING.values(), ids=NOTHING)
def test_zero_everywhere_is_recognised_at_nearby_points(case: Any) -> None:
    evidence = build_evidence(*case)
    assert evidence.largest_magnitude == 0
    assert evidence.zero_nearby is not None
    assert evidence.zero_nearby.all()


@pytest.mark.parametrize("case", HERE.values(), ids=HERE)
def test_zero_at_this_point_is_recognised_as_exact(case: Any) -> None:
    evidence = build_evidence(*case)
    assert evidence.zero_exactly is not None
    assert evidence.zero_exactly.all()


@pytest.mark.parametrize("case", HIDDEN.values(), ids=HIDDEN)
def test_gradient_hidden_by_rounding_is_no_zero(case: Any) -> None:
    evidence = build_evidence(*case)
    assert evidence.largest_magnitude > 0 or not np.any([evidence.zero_nearby, evidence.zero_exactly])


def test_constant_gradient_is_small_and_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much rounding is allowed."""
    lines, leaves, weight = PRODUCT, {"x": np.array([0.25, 0.5])}, 1.0
    assert build_evidence(lines, leaves, weight).largest_magnitude == 0.75
    monkeypatch.setattr(Float64Recomputation, "estimate_rounding_allowance", lambda self, name: np.array(10.0))
    monkeypatch.setattr(
        "service.numerics.verdict.zero_gradients.estimate_rounding_allowances", lambda *args: {"w": np.array(10.0)}
    )
    evidence = build_evidence(lines, leaves, weight)
    assert (evidence.largest_magnitude, evidence.zero_nearby, evidence.zero_exactly) == (0, False, False)


def test_zero_evidence_is_missing_where_nearby_points_leave_the_domain() -> None:
    lines = make_chain(
        ("p", "mul", ["x", "w"], {}), ("s", "sqrt", ["p"], {}), ("d", "sub", ["s", "s"], {}), ("loss", "sum", ["d"], {})
    )
    evidence = build_evidence(lines, {"x": np.array([0.0, 1.0])}, 1.0)
    assert evidence == ZeroEvidence(0.0)
    far = make_chain(
        ("e", "exp", ["x"], {}), ("s", "mul", ["e", "w"], {}), ("d", "sub", ["s", "s"], {}), ("loss", "sum", ["d"], {})
    )
    edge = build_evidence(far, {"x": np.array([709.7827])}, 1.0)
    assert edge.zero_nearby is not None
    assert not edge.zero_nearby.any()
    assert edge.zero_exactly is not None
    assert edge.zero_exactly.all()


def make_difference(value: Any, bound: float, rounding: float) -> Any:
    value = np.asarray(value, np.float64)
    return SimpleNamespace(
        value=value, error_bound=np.full(value.shape, bound), rounding_error=np.full(value.shape, rounding)
    )


def test_zero_tolerance_depends_on_evidence_and_bound() -> None:
    flags = ZeroEvidence(0.0, np.array([True, False, False]), np.array([False, True, False]))
    rounding = np.full(3, 1e-16)
    assert find_zero_tolerance(ZeroEvidence(1.0), make_difference(np.zeros(3), 1e-15, 1e-16), rounding) is None
    tolerance = find_zero_tolerance(flags, make_difference(np.zeros(3), 1e-15, 1e-16), rounding)
    assert tolerance is not None
    assert tolerance.tolist() == [INF, pytest.approx(1.1e-15), -INF]
    wide = find_zero_tolerance(flags, make_difference(np.zeros(3), 1e-3, 1e-16), rounding)
    assert wide is not None
    assert wide.tolist() == [-INF, -INF, -INF], "the difference hides as much as it finds"
    switched_off = find_zero_tolerance(flags, make_difference(np.zeros(3), 1e-3, 0.0), np.full(3, 1e-300))
    assert switched_off is not None
    assert switched_off.tolist() == [-INF, 1e-300, -INF]


def test_zero_along_directions_needs_all_elements_zero() -> None:
    rounding = np.full(2, 1e-16)
    for elsewhere, exactly, expected in (
        ([True, True, True], [False, True, False], INF),
        ([True, True, False], [False, False, True], 1.1e-15),
        ([True, True, False], [False, False, False], -INF),
    ):
        tolerance = find_zero_tolerance(
            ZeroEvidence(0.0, np.array(elsewhere), np.array(exactly)),
            make_difference(np.zeros(2), 1e-15, 1e-16),
            rounding,
        )
        assert tolerance is not None
        assert tolerance.tolist() == [pytest.approx(expected)] * 2


def check_zero_candidate(case: Any, candidate: Any, datatype: str, **fields: Any) -> str:
    lines, leaves, weight = case
    body = {"tensors": {k: v.tolist() for k, v in leaves.items()}, "weights": {"w": np.asarray(weight).tolist()}}
    given = np.broadcast_to(np.asarray(candidate, np.float64), np.shape(weight)).tolist()
    more = {"candidate": {"w": given}, "candidate_dtype": datatype, "include": []}
    return str(check(body | {"model": {"nodes": lines}} | more | fields)["outcome"])


@pytest.mark.parametrize("along", [{}, {"finite_difference": {"projections": 3}}], ids=["by element", "along"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", NOTHING.values(), ids=NOTHING)
def test_true_zeros_pass_as_zeros_and_as_what_rounding_makes_of_them(case: Any, dtype: str, along: Any) -> None:
    fields = {"dtype": dtype, **along}
    assert check_zero_candidate(case, 0, "FP64", **fields) == "pass"
    assert check_zero_candidate(case, 1e-17, "FP64", **fields) == "pass"
    assert check_zero_candidate(case, 1e-8, "FP32", **fields) == "pass"
    assert check_zero_candidate(case, 1e-3, "FP32", **fields) == "fail"


@pytest.mark.parametrize("case", HERE.values(), ids=HERE)
def test_zero_at_this_point_passes_only_as_zero(case: Any) -> None:
    assert check_zero_candidate(case, 0, "FP64") == "pass"
    assert check_zero_candidate(case, 0, "BF16") == "pass"
    assert check_zero_candidate(case, 1e-3, "BF16") != "pass"


@pytest.mark.parametrize("along", [{}, {"finite_difference": {"projections": 3}}], ids=["by element", "along"])
@pytest.mark.parametrize("case", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("candidate", [0, 0.01, 1e-17])
def test_gradient_hidden_by_rounding_does_not_pass(case: Any, candidate: float, along: Any) -> None:
    assert check_zero_candidate(case, candidate, "FP64", **along) != "pass"
