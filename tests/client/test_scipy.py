"""The replacement of scipy's checker: the distance of a gradient from a derivative with a bound."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import optimize
from scipy import sparse as typed_sparse

from gradcheckd import GradientError, InconclusiveGradientWarning, RequestError, TensorError
from gradcheckd.scipy import check_grad

pytestmark = pytest.mark.covers_by_cases

sparse: Any = typed_sparse
X = np.array([1.2, -0.7, 0.4, 2.0])


@pytest.fixture(autouse=True)
def name_service(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADCHECKD_URL", url)


def compute_field(x: Any, factor: float = 1.0) -> Any:
    return factor * np.sin(x[:2]) * x[2]


def compute_jacobian(x: Any, factor: float = 1.0) -> Any:
    rows = [[np.cos(x[0]) * x[2], 0, np.sin(x[0]), 0], [0, np.cos(x[1]) * x[2], np.sin(x[1]), 0]]
    return factor * np.array(rows)


RIGHT: dict[str, tuple[Callable[..., Any], Callable[..., Any], Any, tuple[Any, ...]]] = {
    "a number": (optimize.rosen, optimize.rosen_der, X, ()),
    "a vector": (compute_field, compute_jacobian, X, ()),
    "a vector of one": (lambda x: np.array([np.sin(x).sum()]), np.cos, X, ()),
    "further arguments": (compute_field, compute_jacobian, X, (3.0,)),
    "integers and lists": (lambda x: x[0] ** 2 - 0.5 * x[1] ** 3, lambda x: [2 * x[0], -1.5 * x[1] ** 2], [1, -1], ()),
    "gradients of integers": (lambda x: 2 * x[0] - x[1], lambda x: [2, -1], [0.5, 0.25], ()),
    "a constant": (lambda x: 3.0, np.zeros_like, X, ()),
}


@pytest.mark.parametrize(("func", "grad", "x0", "args"), RIGHT.values(), ids=RIGHT)
def test_right_gradients_are_much_nearer_than_with_scipy(
    func: Callable[..., Any], grad: Callable[..., Any], x0: Any, args: tuple[Any, ...]
) -> None:
    distance = check_grad(func, grad, x0, *args, raise_exception=True)
    assert isinstance(distance, float)
    assert distance <= 1e-12 * (1 + np.linalg.norm(grad(np.asarray(x0), *args)))
    assert distance <= optimize.check_grad(func, grad, x0, *args)


@pytest.mark.parametrize("direction", ["all", "random"])
@pytest.mark.parametrize("factor", [1 + 1e-7, 1.001, 2.0, -1.0])
def test_distances_of_wrong_gradients_are_right(direction: Any, factor: float) -> None:
    def compute_wrong_gradient(x: Any) -> Any:
        return factor * optimize.rosen_der(x)

    distance = check_grad(optimize.rosen, compute_wrong_gradient, X, direction=direction, rng=3)
    gradient = optimize.rosen_der(X)
    size = gradient @ np.random.default_rng(3).standard_normal(4) if direction == "random" else np.linalg.norm(gradient)
    assert distance == pytest.approx(abs((factor - 1) * size), rel=1e-4)
    with pytest.raises(GradientError, match="y/x"):
        check_grad(optimize.rosen, compute_wrong_gradient, X, direction=direction, rng=3, raise_exception=True)


def test_a_wrong_element_of_a_jacobian_is_named() -> None:
    def compute_wrong_gradient(x: Any) -> Any:
        right = compute_jacobian(x)
        right[1, 2] *= 1.0001
        return right

    assert check_grad(compute_field, compute_wrong_gradient, X) == pytest.approx(1e-4 * abs(np.sin(X[1])), rel=1e-6)
    with pytest.raises(GradientError, match=r"the worst is y/x\[1\]\[2\]"):
        check_grad(compute_field, compute_wrong_gradient, X, raise_exception=True)


@pytest.mark.parametrize("x0", [X, np.zeros(3), 1e-6 * X, 1e6 * X], ids=str)
def test_right_gradients_pass_along_random_directions(x0: Any) -> None:
    def compute_loss(x: Any) -> float:
        return float((x**2).sum() + x.sum())

    for seed in range(3):
        distance = check_grad(
            compute_loss, lambda x: 2 * x + 1, x0, direction="random", seed=seed, raise_exception=True
        )
        assert distance <= 1e-10 * (1 + np.linalg.norm(x0))


GENERATORS: dict[str, Callable[[], dict[str, Any]]] = {
    "rng": lambda: {"rng": 3},
    "a generator": lambda: {"rng": np.random.default_rng(3)},
    "seed": lambda: {"seed": 3},
    "an older generator": lambda: {"seed": np.random.RandomState(3)},
}


@pytest.mark.parametrize("make_options", GENERATORS.values(), ids=GENERATORS)
def test_directions_are_those_of_scipy(make_options: Callable[[], dict[str, Any]]) -> None:
    distance = check_grad(np.sum, np.zeros_like, X, direction="random", **make_options())
    expected = optimize.check_grad(np.sum, np.zeros_like, X, direction="random", **make_options())
    assert distance == pytest.approx(expected)
    kink = (lambda x: abs(x[0]), np.zeros_like, np.array([0.0, 1.0]))
    with pytest.warns(InconclusiveGradientWarning):
        distance = check_grad(*kink, direction="random", **make_options())
    assert distance == pytest.approx(optimize.check_grad(*kink, direction="random", **make_options()))


def test_projections_that_cancel_are_not_refused_for_rounding() -> None:
    gradient = np.array([1e8, 1.0])
    direction = np.random.default_rng(0).standard_normal(2)
    gradient[1] = -gradient[0] * direction[0] / direction[1]
    functions = (lambda x: gradient @ x, lambda x: gradient)
    distance = check_grad(*functions, X[:2], direction="random", rng=0, raise_exception=True)
    assert distance <= 1e-6


def test_each_point_is_evaluated_for_one_check_alone() -> None:
    points: list[bytes] = []

    def compute_loss(x: Any) -> float:
        points.append(x.tobytes())
        return float(np.sin(x).sum())

    check_grad(compute_loss, np.cos, X)
    # At the base it is evaluated three times, to measure noise.
    assert len(points) == len(set(points)) + 2


def test_a_kink_goes_to_scipy() -> None:
    def compute_loss(x: Any) -> float:
        return abs(x[0]) + x[1]

    with pytest.warns(InconclusiveGradientWarning, match="so that scipy's own comparison does") as warned:
        distance = check_grad(compute_loss, lambda x: [1, 1], [0.0, 1.0], epsilon=1e-6, raise_exception=True)
    assert distance == optimize.check_grad(compute_loss, lambda x: [1, 1], [0.0, 1.0], epsilon=1e-6)
    assert warned[0].filename == __file__


def test_functions_in_float32_have_an_uncertain_distance() -> None:
    def compute_loss(x: Any) -> float:
        return float(np.sin(x.astype(np.float32)).sum(dtype=np.float32))

    with pytest.warns(InconclusiveGradientWarning, match="the distance is uncertain"):
        distance = check_grad(compute_loss, np.cos, X)
    assert distance < 1e-3 < 0.1 < optimize.check_grad(compute_loss, np.cos, X)


def test_the_signature_begins_with_that_of_scipy() -> None:
    ours = inspect.signature(check_grad).parameters
    theirs = inspect.signature(optimize.check_grad).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].kind, ours[name].default) == (parameter.kind, parameter.default)


REFUSED: dict[str, tuple[Any, Any, dict[str, Any], type[Exception], str]] = {
    "another direction": (np.sum, np.ones_like, {"direction": "some"}, RequestError, '"all" or "random"; \'some\' was'),
    "two generators": (np.sum, np.ones_like, {"rng": 1, "seed": 1}, RequestError, "two names of one parameter"),
    "a projected Jacobian": (
        compute_field,
        compute_jacobian,
        {"direction": "random"},
        RequestError,
        "functions that return a number",
    ),
    "another size": (np.sum, lambda x: x[:2], {}, TensorError, r"has shape \[2\]; the derivative has shape \[4\]"),
    "a transposed Jacobian": (
        compute_field,
        lambda x: compute_jacobian(x).T,
        {},
        TensorError,
        r"has shape \[4, 2\]; the derivative",
    ),
}


@pytest.mark.parametrize(("func", "grad", "options", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_other_arguments_are_refused(
    func: Any, grad: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_grad(func, grad, X, **options)


@pytest.mark.parametrize("kind", ["csr_array", "csr_matrix", "coo_array"])
def test_a_sparse_jacobian_is_judged(kind: str) -> None:
    def compute(x: Any, factor: float = 1.0) -> Any:
        return getattr(sparse, kind)(compute_jacobian(x, factor))

    assert check_grad(compute_field, compute, X) < 1e-9
    with pytest.raises(GradientError, match="scaled"):
        check_grad(compute_field, lambda x: compute(x, 1.001), X, raise_exception=True)


def test_a_gradient_in_memory_that_its_function_writes_again_is_judged() -> None:
    memory = np.zeros(4)

    def compute(x: Any) -> Any:
        memory[:] = x
        return (memory**2).sum()

    def differentiate(x: Any) -> Any:
        memory[:] = 2 * x
        return memory

    assert check_grad(compute, differentiate, X) < 1e-9


def test_a_point_with_rows_is_refused_as_by_scipy() -> None:
    with pytest.raises(RequestError, match=r"x0 has shape \[2, 2\]; give it as one row of numbers"):
        check_grad(np.sum, np.ones_like, X.reshape(2, 2))
