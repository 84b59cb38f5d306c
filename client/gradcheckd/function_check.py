"""The check of a function that stays with the caller: plan, products, values, judgement, and further rounds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from gradcheckd import wire
from gradcheckd.blackbox import (
    PlannedPoints,
    PlanParameters,
    encode_bounds,
    encode_judgement,
    encode_scales,
    request_derivatives,
    request_judgement,
    request_plan,
)
from gradcheckd.connection import Connection
from gradcheckd.derivatives import BoundedDerivatives, Derivatives
from gradcheckd.errors import ProblemError, RequestError, hide_frames
from gradcheckd.function_evaluation import EvaluationProgress, FunctionEvaluator, PointValues
from gradcheckd.function_forms import TensorForm, read_point
from gradcheckd.further_rounds import (
    MAX_ROUNDS,
    LostElements,
    Scales,
    encode_shrunken_scales,
    find_lost_elements,
    is_about_scale,
    is_constant_near_base,
)
from gradcheckd.gradient_products import GradientArguments
from gradcheckd.own_points import get_plan_fields, is_about_own_points, knows_no_own_points, make_plan
from gradcheckd.product_forms import read_cotangents
from gradcheckd.report import BlackBoxReport
from gradcheckd.wire import Section

__tracebackhide__ = hide_frames

_Round = TypeVar("_Round")


@dataclass(frozen=True)
class CheckOptions:
    """Parameters of a check beside the function, its point and its gradients; those of `check_function`."""

    cotangents: Any = None
    directions: Any = None
    scale: Any = None
    bounds: Any = None
    seed: int | None = None
    evaluations: Literal["full", "few"] | None = None
    judge_fields: Mapping[str, Any] | None = None
    progress: EvaluationProgress | None = None


@dataclass(frozen=True, eq=False)
class _EvaluatedPlan:
    """A plan with what was computed at its points."""

    plan: PlannedPoints
    products: Mapping[str, Section]
    values: PointValues


class FunctionCheck:
    """A check of one function at one point, in rounds.

    Parameters
    ----------
    connection
        Connection to the service.
    function
        Function of the caller.
    point
        Point in the form of the caller.
    gradients
        Gradients of the caller.
    options
        Other parameters.

    Raises
    ------
    RequestError
        Parameters exclude each other.
    TensorError
        The point has tensors other than of floats, or the function returns such.
    """

    def __init__(
        self,
        connection: Connection,
        function: Callable[..., Any],
        point: Any,
        gradients: GradientArguments,
        options: CheckOptions,
    ) -> None:
        directions = gradients.choose_directions(options.directions)
        gradients.refuse_unfit_arrays(directions, options.cotangents)
        if gradients.candidate is not None and options.cotangents is not None:
            raise RequestError("cotangents go with vjp; a candidate is the gradient of a function with one number.")
        self._connection, self._gradients, self._options = connection, gradients, options
        self._point = read_point(point)
        self._evaluated: _EvaluatedPlan | None = None
        self._plan_fields = {
            "directions": directions,
            "scale": encode_scales(options.scale, self._point),
            "bounds": encode_bounds(options.bounds, self._point),
            "seed": options.seed,
        }
        if self._takes_few_evaluations():
            # A service that knows no first look takes all other plans.
            self._plan_fields["evaluations"] = "few"
        self._evaluator = FunctionEvaluator(function, self._point, is_loss=gradients.candidate is not None)
        outputs = self._evaluator.outputs
        given = options.cotangents
        self._cotangents = None if given is None or outputs is None else read_cotangents(given, outputs)

    def _takes_few_evaluations(self) -> bool:
        """Tell whether a first look may suffice: the caller said so, or is to be spared a request that mostly does not.

        Narrow datatypes allow so much that two directions find too little (service/numerics/blackbox/first_look.py);
        a tolerance does, too.
        """
        evaluations = self._options.evaluations
        if evaluations not in (None, "full", "few"):
            raise RequestError(f'evaluations is "full" or "few"; {evaluations!r} was given.')
        if self._gradients.is_empty:
            if evaluations == "few":
                raise RequestError(
                    'evaluations="few" is for gradients of yours: derivatives take all evaluations. Give candidate, '
                    'vjp, jvp or jacobian, or evaluations="full".'
                )
            return False
        is_double = all(tensor.datatype.name == "FP64" for tensor in self._point.tensors.values())
        has_tolerance = "tolerance" in (self._options.judge_fields or {})
        return evaluations == "few" or (evaluations is None and is_double and not has_tolerance)

    @property
    def outputs(self) -> TensorForm | None:
        """Return the form of the outputs; None for a function that returns one number."""
        return self._evaluator.outputs

    def judge(self) -> BlackBoxReport:
        """Judge the gradients; go round with smaller moves where the function has a kink or no value beside the point.

        Raises
        ------
        ProblemError
            The service refuses the request.
        Exception
            Any error of the caller's functions.
        """
        first, scales, _ = self._judge_round(self._request_plan(None))
        report = first
        for rounds in range(2, MAX_ROUNDS + 1):
            plan = self._plan_further_round(scales, find_lost_elements(report, self._point, self.outputs, scales))
            if plan is None:
                break
            report, scales, values = self._judge_round(plan)
            if is_constant_near_base(values):
                return replace(first, rounds=rounds)
            if report.outcome != "inconclusive":
                return replace(report, rounds=rounds)
            # The reasons of the first round are those of the function at large.
            first = replace(first, rounds=rounds)
        return first

    def _judge_round(self, plan: PlannedPoints) -> tuple[BlackBoxReport, Scales, PointValues]:
        return self._run_round(plan, self._judge_plan)

    def _run_round(self, plan: PlannedPoints, run: Callable[[PlannedPoints], _Round]) -> _Round:
        """Run a round of a plan; of the service's plan if it refuses points that were made here."""
        try:
            return run(plan)
        except ProblemError as error:
            if not plan.is_made_here or not is_about_own_points(error):
                raise
            if knows_no_own_points(error):
                self._connection.takes_plan_requests = False
        parameters = PlanParameters(self._point, self.outputs, self._cotangents, get_plan_fields(plan))
        return run(request_plan(self._connection, parameters))

    def _judge_plan(self, plan: PlannedPoints) -> tuple[BlackBoxReport, Scales, PointValues]:
        products, values = self._evaluate(plan)
        while True:
            body = encode_judgement(plan, values, products, self._options.judge_fields or {})
            raw = request_judgement(self._connection, body, plan)
            if not isinstance(raw, PlannedPoints):
                break
            plan = raw
            values = self._evaluator.evaluate(plan.points, plan.evaluations, self._options.progress, values)
        with wire.UnexpectedAnswerGuard():
            report = BlackBoxReport.read(raw, self._connection.prepare_repeat("/v1/judge", body))
        return replace(report, exceptions=values.exceptions), plan.scales, values

    def differentiate(self) -> Derivatives:
        """Return the derivatives with their error bounds; rounds and errors are those of `judge`."""
        outputs = self.outputs
        assert outputs is not None
        derivatives, result, scales, _ = self._run_round(self._request_plan(None), self._differentiate_plan)
        for rounds in range(2, MAX_ROUNDS + 1):
            lost = derivatives.find_lost_elements() if result.raw.get("deterministic", True) else {}
            plan = self._plan_further_round(scales, lost)
            if plan is None:
                break
            further, further_result, scales, point_values = self._run_round(plan, self._differentiate_plan)
            if is_constant_near_base(point_values):
                result = replace(result, rounds=rounds)
                break
            derivatives, result = derivatives.narrow(further), replace(further_result, rounds=rounds)
        values, error_bounds = derivatives.assemble(outputs, self._point)
        return replace(result, values=values, error_bounds=error_bounds)

    def _differentiate_plan(self, plan: PlannedPoints) -> tuple[BoundedDerivatives, Derivatives, Scales, PointValues]:
        outputs = self.outputs
        assert outputs is not None
        products, values = self._evaluate(plan)
        fields = {**(self._options.judge_fields or {}), "include": ["derivatives"]}
        arrays, raw = request_derivatives(self._connection, encode_judgement(plan, values, products, fields))
        with wire.UnexpectedAnswerGuard():
            derivatives = BoundedDerivatives.read(arrays, outputs, self._point)
            result = Derivatives(None, None, raw["evaluations"], 1, values.exceptions, raw)
        return derivatives, result, plan.scales, values

    def _request_plan(self, scale: Mapping[str, Any] | None) -> PlannedPoints:
        fields = {name: value for name, value in self._plan_fields.items() if value is not None}
        if scale is not None:
            fields["scale"] = scale
        parameters = PlanParameters(self._point, self.outputs, self._cotangents, fields)
        own = make_plan(parameters) if self._connection.takes_plan_requests else None
        return own or request_plan(self._connection, parameters)

    def _plan_further_round(self, scales: Scales, lost: LostElements) -> PlannedPoints | None:
        """Plan a round with smaller moves of some elements; None if there is none, or the caller chose a scale."""
        if not lost or self._options.scale is not None:
            return None
        try:
            return self._request_plan(encode_shrunken_scales(scales, lost))
        except ProblemError as error:
            if is_about_scale(error):
                return None
            raise

    def _evaluate(self, plan: PlannedPoints) -> tuple[Mapping[str, Section], PointValues]:
        """Compute the products, which cost less, and then the values; of points that a service makes again, once."""
        if self._evaluated is not None and self._evaluated.plan.has_points_of(plan):
            return self._evaluated.products, self._evaluated.values
        products = self._gradients.compute_products(self._point, self.outputs, plan)
        values = self._evaluator.evaluate(plan.points, plan.evaluations, self._options.progress)
        self._evaluated = _EvaluatedPlan(plan, products, values) if plan.is_made_here else None
        return products, values
