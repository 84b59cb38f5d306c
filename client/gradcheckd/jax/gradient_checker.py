"""The replacement of jax's checker, with its signature."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import gradcheckd
from gradcheckd.directions import choose_directions
from gradcheckd.errors import GradientError, RequestError, hide_frames
from gradcheckd.jax.leaf_function import LeafFunction, Leaves, flatten_function, pull_back, push_forward, split_complex
from gradcheckd.jax.untyped_jax import jax, jnp, test_util
from gradcheckd.report import BlackBoxReport
from gradcheckd.undecided import announce_undecided

__tracebackhide__ = hide_frames

Tolerance = float | Mapping[Any, float] | None
MODES = ("fwd", "rev", "lin")
_DEFAULT_EPS = 1e-4
"""Step of jax's own comparison, by default."""


class DerivativeError(GradientError):
    """A derivative that is wrong; its message names the order and the modes, and has the report.

    Attributes
    ----------
    report
        Report of the check.
    level
        Derivative that is wrong: "JVP and VJP", or "JVP and VJP of VJP" at the second order.
    """

    def __init__(self, report: BlackBoxReport, text: str, level: str) -> None:
        super().__init__(report, text)
        self.level = level
        self.args = (f"{level}: {self.args[0]}",)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report, self._text, self.level), vars(self)


class NothingToJudgeError(Exception):
    """All outputs are empty at the base."""


@dataclass(frozen=True)
class GradientComparison:
    """Parameters of `check_grads` that say how to compare.

    Attributes
    ----------
    modes
        Modes in the order of `MODES`.
    atol, rtol, eps
        Tolerances and step of the caller.
    """

    modes: tuple[str, ...]
    atol: Tolerance
    rtol: Tolerance
    eps: float | None

    def choose_tolerance(self, function: LeafFunction) -> dict[str, float] | None:
        """Return the tolerance of the caller for the datatypes of a function, 0 for a number that was left out."""
        numbers = {"atol": _choose_number(self.atol, function), "rtol": _choose_number(self.rtol, function)}
        tolerance = {name: number for name, number in numbers.items() if number is not None}
        return tolerance or None


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int,
    modes: Collection[str] = ("fwd", "rev"),
    atol: Tolerance = None,
    rtol: Tolerance = None,
    eps: float | None = None,
) -> None:
    """Check derivatives by differences with measured error bounds; as `jax.test_util.check_grads`.

    Each output is judged on its own, and forward and reverse mode are held against each other. A check that the service
    cannot decide goes to jax's own comparison, with an `InconclusiveGradientWarning`.

    Parameters
    ----------
    f
        Function of the arguments, pytrees in and out. Leaves of integers and Booleans are constants.
    args
        Arguments. Leaves of float64 become float32 unless jax has 64 bits enabled, as in any function of jax. Up to 16
        numbers in all are moved one by one, and more along 4 random directions of each leaf.
    order
        Derivatives up to this order are checked. One of order 2 is the derivative of each mode's product, at random
        tangents or cotangents, by each mode.
    modes
        "fwd" for `jax.jvp`, "rev" for `jax.vjp`, "lin" for `jax.linearize`; one or more.
    atol, rtol
        Allowed error, a number or by datatype, if you give one of them and the derivative is not right to rounding. By
        default only rounding is allowed.
    eps
        Step of jax's own comparison. The check itself chooses its steps by the noise that it measures.

    Raises
    ------
    DerivativeError
        An AssertionError: a derivative is wrong; the message is the report.
    AssertionError
        The check could not decide, and jax's own comparison refuses the derivative.
    RequestError
        The order or a mode is not valid.
    TensorError
        There are no floats to differentiate, or they are of a datatype without a name on the wire.
    """
    if order < 1:
        raise RequestError(f"order is 1 for first derivatives, or more; {order} was given.")
    comparison = GradientComparison(_choose_modes(modes), atol, rtol, eps)
    function = flatten_function(f, tuple(args))
    if not function.point:
        return
    try:
        for level, derivative in _iterate_levels(function, "", order, comparison.modes):
            for group in _group_modes(comparison.modes):
                _check_level(derivative, f"{' and '.join(map(_name_mode, group))}{level}", group, comparison)
    except NothingToJudgeError:
        return


def _choose_modes(modes: Collection[str]) -> tuple[str, ...]:
    chosen = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in chosen if mode not in MODES]
    if unknown or not chosen:
        raise RequestError(f"modes are some of {', '.join(map(repr, MODES))}; {modes!r} was given.")
    return tuple(mode for mode in MODES if mode in chosen)


def _group_modes(modes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the modes that one check judges: one product of each kind."""
    together = tuple(mode for mode in modes if mode != "lin")
    return [group for group in (together, ("lin",) if "lin" in modes else ()) if group]


def _name_mode(mode: str) -> str:
    return {"fwd": "JVP", "rev": "VJP", "lin": "LIN"}[mode]


def _iterate_levels(
    function: LeafFunction, level: str, order: int, modes: tuple[str, ...]
) -> Iterator[tuple[str, LeafFunction]]:
    """Yield functions with the ends of their names: the function itself, and its products for higher orders."""
    yield level, function
    if order > 1:
        random = np.random.default_rng(0)
        for mode in modes:
            product = {"fwd": push_forward, "rev": pull_back, "lin": linearize}[mode](function, random)
            yield from _iterate_levels(product, f" of {_name_mode(mode)}{level}", order - 1, modes)


def linearize(function: LeafFunction, random: np.random.Generator) -> LeafFunction:
    """Return the product of `jax.linearize` as a function of the point and its tangents."""
    pushed = push_forward(function, random)

    def compute(leaves: Leaves) -> Leaves:
        moved = {name: leaves[name] for name in function.point}
        tangents = {name: leaves[f"tangent of {name}"] for name in function.point}
        return jax.linearize(function.compute, moved)[1](tangents)

    return LeafFunction(compute, pushed.point)


def _check_level(function: LeafFunction, level: str, modes: tuple[str, ...], comparison: GradientComparison) -> None:
    report = _judge_products(split_complex(function), modes, None)
    tolerance = comparison.choose_tolerance(function)
    if not report.passed and tolerance is not None:
        # A tolerance alone would refuse derivatives of a size whose rounding exceeds it.
        report = _judge_products(split_complex(function), modes, tolerance)
    if report.outcome == "fail":
        raise DerivativeError(report, report.text(), level)
    if report.outcome == "inconclusive":
        announce_undecided(
            f"gradcheckd could not decide on {level}, so that jax's own comparison decides. {report.summary}"
        )
        _compare_as_jax(function, level, modes, comparison)


def _judge_products(
    function: LeafFunction, modes: tuple[str, ...], tolerance: Mapping[str, float] | None
) -> BlackBoxReport:
    has_outputs = False

    def evaluate(point: Mapping[str, Any]) -> dict[str, Any]:
        nonlocal has_outputs
        outputs = _to_numpy(function.compute(_to_jax(point, function.point)))
        if not (outputs or has_outputs):
            raise NothingToJudgeError
        has_outputs = True
        return outputs

    def compute_jvp(point: Mapping[str, Any], tangents: Mapping[str, Any]) -> dict[str, Any]:
        primals, directions = _to_jax(point, function.point), _to_jax(tangents, function.point)
        if "lin" in modes:
            return _to_numpy(jax.linearize(function.compute, primals)[1](directions))
        return _to_numpy(jax.jvp(function.compute, (primals,), (directions,))[1])

    def compute_vjp(point: Mapping[str, Any], cotangents: Mapping[str, Any]) -> dict[str, Any]:
        outputs, transpose = jax.vjp(function.compute, _to_jax(point, function.point))
        return _to_numpy(transpose(_to_jax(cotangents, outputs))[0])

    return gradcheckd.check_function(
        evaluate,
        _to_numpy(function.point),
        jvp=None if modes == ("rev",) else compute_jvp,
        vjp=compute_vjp if "rev" in modes else None,
        directions=choose_directions(function.size),
        tolerance=tolerance,
    )


def _compare_as_jax(function: LeafFunction, level: str, modes: tuple[str, ...], comparison: GradientComparison) -> None:
    """Compare as jax's checker does, at the caller's tolerances."""
    tolerances: Any = {"atol": comparison.atol, "rtol": comparison.rtol, "eps": comparison.eps or _DEFAULT_EPS}
    for mode in modes:
        check = test_util.check_vjp if mode == "rev" else test_util.check_jvp
        products = {"fwd": _compute_jvp, "rev": jax.vjp, "lin": _compute_linearized}
        product: Any = products[mode]

        def compute_product(*arguments: Any, product: Any = product) -> Any:
            return product(function.compute, *arguments)

        check(function.compute, compute_product, (function.point,), **tolerances, err_msg=level)


def _compute_jvp(compute: Any, primals: Any, tangents: Any) -> Any:
    return jax.jvp(compute, primals, tangents)


def _compute_linearized(compute: Any, primals: Any, tangents: Any) -> Any:
    outputs, push = jax.linearize(compute, *primals)
    return outputs, push(*tangents)


def _choose_number(tolerance: Tolerance, function: LeafFunction) -> float | None:
    if not isinstance(tolerance, Mapping):
        return tolerance
    by_dtype = {np.dtype(dtype): number for dtype, number in tolerance.items()}
    return max((by_dtype[dtype] for dtype in function.dtypes if dtype in by_dtype), default=None)


def _to_jax(arrays: Mapping[str, Any], like: Leaves) -> dict[str, Any]:
    """Return arrays of NumPy as arrays of jax with the datatypes of others."""
    return {name: jnp.asarray(array, like[name].dtype) for name, array in arrays.items()}


def _to_numpy(leaves: Leaves) -> dict[str, Any]:
    return {name: np.asarray(leaf) for name, leaf in leaves.items()}
