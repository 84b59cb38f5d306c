"""Functions at random with gradients, right and wrong, for `benchmarks.few_evaluations` and its test.

A trial goes through the looks of a plan with few evaluations as a service does: the first points, then, unless those
suffice for a pass, the others. It calls the numerics directly; `benchmarks.few_evaluations` holds some trials against a
service.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from schemas.datatype import DATATYPES
from schemas.tensor import Tensor
from service.checks.blackbox.evaluation_plan import build_evaluation_plan
from service.checks.blackbox.scales_and_bounds import MoveSettings
from service.checks.common.limits import Limits
from service.numerics.blackbox import first_look
from service.numerics.blackbox.candidate_judge import TensorJudgement, judge_candidates
from service.numerics.blackbox.layout import EvaluationLayout
from service.numerics.blackbox.output_judge import OutputJudge
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from service.numerics.verdict.projection import NormDetectionLimit

Array = np.ndarray[Any, Any]
Datatype = Literal["FP64", "FP32"]
NAME = "x"
HIDDEN, OUTPUTS, MAX_INPUTS = 16, 3, 30
ELEMENT_ERRORS: Mapping[str, float] = {"FP64": 1e-4, "FP32": 1e-2}
SCALE_ERROR, SIGN_ERROR = 1e-3, 2.0
ERROR_KINDS = ("element", "all", "sign", "norm")
"""One element x 1.0001 (FP32: 1.01); all x 1.001; the sign of one element; the stated error in a random direction."""


@dataclass(frozen=True)
class RandomFunction:
    """A function of many points at once, (points, n) to (points, m), and its Jacobian at one, (m, n).

    Both compute in the arithmetic of their argument; `evaluate` takes a single point, (n,), too.
    """

    evaluate: Callable[[Array], Array]
    differentiate: Callable[[Array], Array]


def _make_network(activate: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Callable[..., RandomFunction]:
    """Return a family of networks with one hidden layer: W activate(A x + b)."""

    def draw(generator: np.random.Generator, n: int, m: int) -> RandomFunction:
        a, b = generator.normal(size=(HIDDEN, n)) / np.sqrt(n), generator.normal(size=HIDDEN)
        w = generator.normal(size=(m, HIDDEN))
        return RandomFunction(
            lambda x: activate(x @ a.T.astype(x.dtype) + b.astype(x.dtype)) @ w.T.astype(x.dtype),
            lambda x: (w.astype(x.dtype) * slope(a.astype(x.dtype) @ x + b.astype(x.dtype))) @ a.astype(x.dtype),
        )

    return draw


def _draw_norms(generator: np.random.Generator, n: int, m: int) -> RandomFunction:
    """Return norms of the input, each with weights of its own."""
    v = generator.uniform(0.5, 2, size=(m, n))
    return RandomFunction(
        lambda x: np.sqrt((x * x) @ v.T.astype(x.dtype)),
        lambda x: v.astype(x.dtype) * x / np.sqrt(v.astype(x.dtype) @ (x * x))[:, None],
    )


def _draw_logarithms(generator: np.random.Generator, n: int, m: int) -> RandomFunction:
    """Return sums of logarithms, with a pole where an element is 0."""
    v = generator.normal(size=(m, n))
    return RandomFunction(lambda x: np.log(np.abs(x)) @ v.T.astype(x.dtype), lambda x: v.astype(x.dtype) / x)


FAMILIES: Mapping[str, Callable[..., RandomFunction]] = {
    "tanh network": _make_network(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "exponentials": _make_network(np.exp, np.exp),
    "quadratic": _make_network(np.square, lambda z: 2 * z),
    "norm": _draw_norms,
    "relu network": _make_network(lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype)),
    "abs network": _make_network(np.abs, np.sign),
    "logarithms": _draw_logarithms,
}


@dataclass(frozen=True)
class Cell:
    """Functions of one family, with their points and gradients in one datatype.

    Attributes
    ----------
    family
        Name in `FAMILIES`.
    datatype
        Datatype of the point, the values and the gradient.
    has_outputs
        True for several outputs and a vector-Jacobian product, False for a number and its gradient.
    """

    family: str
    datatype: Datatype
    has_outputs: bool

    def __str__(self) -> str:
        return f"{self.family}, {self.datatype}, {OUTPUTS if self.has_outputs else 1}"


CELLS = tuple(
    Cell(family, datatype, has_outputs)
    for datatype in ("FP64", "FP32")
    for has_outputs in (False, True)
    for family in FAMILIES
)


@dataclass(frozen=True)
class Procedure:
    """The end of a procedure: after the first look, or after all evaluations.

    Attributes
    ----------
    outcome
        Outcome at last.
    evaluations
        Evaluations that were needed.
    is_first
        True if the first look passed.
    limit
        Detection limit that the report states.
    single_miss_probability
        Probability that the report states for one wrong element.
    """

    outcome: Outcome
    evaluations: int
    is_first: bool
    limit: NormDetectionLimit
    single_miss_probability: float


@dataclass(frozen=True)
class Trial:
    """A function at a point, with its values at the points of a plan.

    Attributes
    ----------
    cell
        Cell of the function.
    point
        Point, (n,).
    layout
        Points of all evaluations.
    values
        Values at them, (evaluations, m).
    cotangent
        Cotangent, (m,); ones for a function with one number.
    gradient
        Right gradient in the datatype, (n,).
    generator
        Source of the errors.
    function, seed
        The function, and the seed of the plan.
    """

    cell: Cell
    point: Array
    layout: EvaluationLayout
    values: Array
    cotangent: Array
    gradient: Array
    generator: np.random.Generator = field(repr=False)
    function: RandomFunction = field(repr=False)
    seed: int

    @property
    def element_error(self) -> float:
        """Relative error of a wrong element."""
        return ELEMENT_ERRORS[self.cell.datatype]

    def run(self, gradient: Array, sought_error: float | None = None) -> Procedure:
        """Judge a gradient, (n,), by few evaluations first."""
        sought = sought_error or self.element_error
        first = self._judge_first(gradient, sought)
        is_first = first_look.suffices(first, sought)
        last = first if is_first else self._judge(self.layout, self.values, gradient, sought)
        judgement = first_look.combine_looks(last, first, sought)
        limit = judgement.verdict.detection_limit
        assert isinstance(limit, NormDetectionLimit)
        evaluations = len(self._first_numbers) if is_first else self.layout.evaluation_count
        return Procedure(judgement.verdict.outcome, evaluations, is_first, limit, judgement.single_miss_probability)

    def passes(self, gradient: Array, sought_error: float | None = None) -> bool:
        """Tell whether a gradient passes at last; one that fails at the first look does not."""
        first = self._judge_first(gradient, sought_error or self.element_error)
        return first.verdict.outcome != Outcome.FAIL and self.run(gradient, sought_error).outcome == Outcome.PASS

    @cached_property
    def _first_numbers(self) -> Array:
        return first_look.list_first_evaluations(self.layout)

    def _judge_first(self, gradient: Array, sought_error: float) -> TensorJudgement:
        values = np.full_like(self.values, np.nan)
        values[self._first_numbers] = self.values[self._first_numbers]
        return self._judge(first_look.select_first_lines(self.layout), values, gradient, sought_error)

    def _judge(self, layout: EvaluationLayout, values: Array, gradient: Array, sought_error: float) -> TensorJudgement:
        gradients, precisions = {NAME: gradient}, {NAME: PRECISIONS[self.cell.datatype]}
        if self.cell.has_outputs:
            judge = OutputJudge(layout, values, sought_error)
            return judge.judge_gradients(self.cotangent, gradients, precisions)[NAME]
        return judge_candidates(layout, values[:, 0], gradients, precisions, sought_error)[1][NAME]

    def plant_error(self, kind: str, relative_l2: float) -> Array:
        """Return the gradient with an error of a kind; the last kind has the given size, relative to the norm."""
        wrong = self.gradient.astype(np.float64)
        if kind == "norm":
            weights = self.layout.lines[NAME].direction_weights
            direction = self.generator.normal(size=wrong.shape)
            size = relative_l2 * np.linalg.norm(wrong * weights) / np.linalg.norm(direction)
            wrong = wrong + size * direction / weights
        elif kind == "all":
            wrong *= 1 + SCALE_ERROR
        else:
            element = self.generator.choice(np.flatnonzero(wrong))
            wrong[element] *= 1 + self.element_error if kind == "element" else -1
        return PRECISIONS[self.cell.datatype].round_to_nearest(wrong).astype(self.gradient.dtype)


def draw_trial(cell: Cell, seed: int) -> Trial:
    """Draw a function, its point and its plan."""
    generator = np.random.default_rng([seed, CELLS.index(cell)])
    dtype = np.float64 if cell.datatype == "FP64" else np.float32
    n, m = int(generator.integers(1, MAX_INPUTS)), OUTPUTS if cell.has_outputs else 1
    function = FAMILIES[cell.family](generator, n, m)
    point = generator.normal(size=n).astype(dtype)
    tensor = Tensor(point, DATATYPES[cell.datatype], is_integral=False)
    plan = build_evaluation_plan(
        {NAME: tensor}, MoveSettings({}, {}), random=True, count=None, seed=seed, limits=Limits()
    )
    # One point at a time, as a client does: a product of matrices rounds otherwise.
    values = np.stack([function.evaluate(row) for row in plan.layout.stack_points(NAME).astype(dtype)])
    cotangent = generator.normal(size=m).astype(np.float32).astype(dtype) if cell.has_outputs else np.ones(1, dtype)
    gradient = cotangent @ function.differentiate(point)
    return Trial(cell, point, plan.layout, values.astype(np.float64), cotangent, gradient, generator, function, seed)
