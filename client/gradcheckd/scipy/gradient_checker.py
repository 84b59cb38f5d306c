"""The replacement of scipy's checker, with its signature."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize as typed_optimize
from scipy import sparse as typed_sparse

import gradcheckd
from gradcheckd.derivatives import Derivatives
from gradcheckd.errors import RequestError, TensorError, hide_frames
from gradcheckd.report import BlackBoxReport, require_pass
from gradcheckd.undecided import announce_undecided

__tracebackhide__ = hide_frames

Array = npt.NDArray[Any]
optimize: Any = typed_optimize
sparse: Any = typed_sparse
# The attribute may be replaced by the function below.
_compare_as_scipy = optimize.check_grad
_DEFAULT_EPSILON = float(np.sqrt(np.finfo(float).eps))
_ROUNDING_FACTOR = 8
"""Unit roundoffs of its largest terms that a projected gradient may be off by."""
_KNOWN_ERROR = 0.01
"""Error of a derivative, relative to it, up to which its distance says something."""


def check_grad(
    func: Callable[..., Any],
    grad: Callable[..., Any],
    x0: Any,
    *args: Any,
    epsilon: float = _DEFAULT_EPSILON,
    direction: Literal["all", "random"] = "all",
    rng: Any = None,
    seed: Any = None,
    raise_exception: bool = False,
) -> float:
    """Return the distance of a gradient from the derivative of a function; as `scipy.optimize.check_grad`.

    The distance of a correct gradient is far smaller than that of scipy: in float64 some 1e-12 instead of 1e-8.

    Parameters
    ----------
    func
        Function of x0 and `args`; returns a number, or a vector of shape (m,).
    grad
        Gradient, of shape (n,), or Jacobian, of shape (m, n), which may be sparse; takes x0 and `args`.
    x0
        Point of shape (n,).
    args
        Further arguments of func and grad.
    epsilon
        Step of scipy's own comparison, for undecided checks. The check itself chooses its steps by the noise that it
        measures.
    direction
        "all" for each element, at 18 evaluations for each. "random" for one random direction, of a function that
        returns a number.
    rng, seed
        Generator, or its seed, of the random direction; one of them, as in scipy.
    raise_exception
        True to raise an error unless the gradient is right within error bound and rounding.

    Returns
    -------
    float
        Norm of the difference of both gradients, or of their projections on the random direction. If the service
        cannot decide, it comes with an `InconclusiveGradientWarning`, and if the derivative is not even known to 1 %,
        as at a kink, it is that of scipy's own comparison.

    Raises
    ------
    GradientError
        With `raise_exception`: an AssertionError; the gradient is wrong, and the message is the report.
    RequestError, TensorError
        A parameter is not valid (a ValueError); the gradient has another shape than the derivative (a TypeError).
    """
    if direction not in ("all", "random"):
        raise RequestError(f'direction is "all" or "random"; {direction!r} was given.')
    if rng is not None and seed is not None:
        raise RequestError("rng and seed are two names of one parameter. Give one of them.")
    start = np.atleast_1d(np.asarray(x0))
    if start.ndim > 1:
        raise RequestError(f"x0 has shape {list(start.shape)}; give it as one row of numbers, x0.ravel().")
    gradient = _read_gradient(grad(np.asarray(x0), *args))
    # Before the direction is drawn, so that scipy draws the same one.
    generator = _name_generator(*copy.deepcopy((rng, seed)))
    line = _choose_line(func, start, args, gradient, _make_generator(rng, seed)) if direction == "random" else None
    comparison = _compare_whole(func, start, args, gradient) if line is None else _compare_along(line)
    if comparison.report.outcome == "inconclusive":
        deciding = "the distance is uncertain" if comparison.is_known else "scipy's own comparison does"
        announce_undecided(f"gradcheckd could not decide, so that {deciding}. {comparison.report.summary}")
        if not comparison.is_known:
            options: dict[str, Any] = {"epsilon": epsilon, "direction": direction, **generator}
            return float(_compare_as_scipy(func, grad, x0, *args, **options))
    if raise_exception and comparison.is_wrong:
        require_pass(comparison.report)
    return comparison.distance


class RecordedFunction:
    """A function whose values serve two checks at the same points: the derivative and the verdict.

    Repeated evaluations of one point measure noise, so that each has its own value in the record.

    Parameters
    ----------
    evaluate
        Function of a point.
    """

    def __init__(self, evaluate: Callable[[Array], Any]) -> None:
        self._evaluate = evaluate
        self._values: dict[bytes, list[Array]] = {}

    def record(self, point: Array) -> Array:
        """Evaluate the function, and keep the value."""
        key = point.tobytes()
        value = np.array(self._evaluate(point))
        self._values.setdefault(key, []).append(value)
        return value

    def replay(self, point: Array) -> Array:
        """Return the next value that was kept for a point, or evaluate the function if there is none."""
        values = self._values.get(point.tobytes())
        return values.pop(0) if values else np.array(self._evaluate(point))


@dataclass(frozen=True)
class GradientDistance:
    """The distance of a gradient from a derivative, and the report on it.

    Attributes
    ----------
    distance
        Norm of the difference.
    report
        Report of the service.
    is_wrong
        True if error bound and rounding do not explain the difference.
    is_known
        True if the derivative is known to 1 %.
    """

    distance: float
    report: BlackBoxReport
    is_wrong: bool
    is_known: bool


@dataclass(frozen=True)
class Line:
    """A function along one direction.

    Attributes
    ----------
    function
        Function of one number of shape (1,).
    position
        Number of the point; as large as the point beside the direction, since moves are relative to it.
    slope
        Projection of the gradient on the direction.
    rounding
        Rounding error that the projection may have.
    """

    function: RecordedFunction
    position: float
    slope: float
    rounding: float


def _compare_whole(func: Callable[..., Any], start: Array, args: tuple[Any, ...], gradient: Array) -> GradientDistance:
    function = RecordedFunction(lambda point: func(point, *args))
    point = _to_floats(start)
    derivatives = gradcheckd.check_function(function.record, point)
    values: Array = derivatives.values
    if gradient.size != values.size or (values.ndim > 1 and len(values) > 1 and gradient.shape != values.shape):
        raise TensorError(
            f"The gradient has shape {list(gradient.shape)}; the derivative has shape {list(values.shape)}. Return one "
            "number for each of its elements."
        )
    candidate = gradient.reshape(values.shape)
    report = gradcheckd.check_function(function.replay, point, jacobian=candidate)
    distance = float(np.linalg.norm(candidate - values))
    return GradientDistance(distance, report, report.outcome == "fail", _is_known(derivatives))


def _compare_along(line: Line) -> GradientDistance:
    point = np.array([line.position])
    derivatives = gradcheckd.check_function(line.function.record, point)
    report = gradcheckd.check_function(line.function.replay, point, jacobian=np.array([line.slope]))
    distance = float(np.abs(derivatives.values - line.slope).max())
    explained = float(np.max(derivatives.error_bounds)) + line.rounding
    is_wrong = report.outcome == "fail" and not distance <= explained
    return GradientDistance(distance, report, is_wrong, _is_known(derivatives))


def _choose_line(
    func: Callable[..., Any], start: Array, args: tuple[Any, ...], gradient: Array, generator: Any
) -> Line:
    """Return the function along a random direction, which scipy draws in the same way."""
    if gradient.ndim > 1:
        raise RequestError('direction="random" is for functions that return a number; use "all".')
    point = _to_floats(start)
    direction = np.asarray(generator.standard_normal(size=start.shape))
    ratio = float(np.linalg.norm(point) / np.linalg.norm(direction))
    # A power of two, so that distances from it are exact.
    position = 2.0 ** np.floor(np.log2(ratio)) if ratio > 0 else 1.0
    terms = gradient.reshape(-1) * direction.reshape(-1)
    rounding = _ROUNDING_FACTOR * float(np.finfo(np.result_type(gradient, np.float32)).eps * np.abs(terms).sum())

    def evaluate(moved: Array) -> Any:
        return func(point + (moved[0] - position) * direction, *args)

    return Line(RecordedFunction(evaluate), position, float(terms.sum()), rounding)


def _is_known(derivatives: Derivatives) -> bool:
    """Tell whether the error bounds are small beside the derivatives; they may be infinite."""
    return bool(np.linalg.norm(derivatives.error_bounds) <= _KNOWN_ERROR * np.linalg.norm(derivatives.values))


def _make_generator(rng: Any, seed: Any) -> Any:
    """Return the generator that scipy makes of the two: an older one of a seed."""
    if seed is None:
        return np.random.default_rng(rng)
    return seed if isinstance(seed, np.random.Generator | np.random.RandomState) else np.random.RandomState(seed)


def _name_generator(rng: Any, seed: Any) -> dict[str, Any]:
    """Return the parameter of scipy for the two; before version 1.15 it had the seed alone."""
    has_rng = "rng" in inspect.signature(_compare_as_scipy).parameters
    return {"seed": seed} if seed is not None else {"rng" if has_rng else "seed": rng}


def _read_gradient(result: Any) -> Array:
    """Return a gradient or a Jacobian, which may be sparse, as a copy: its function may use the memory again."""
    return _to_floats(result.toarray() if sparse.issparse(result) else np.array(result))


def _to_floats(array: Array) -> Array:
    return array if np.issubdtype(array.dtype, np.inexact) else array.astype(np.float64)
