"""Checks of functions that stay with the caller, as methods of a service."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, Unpack, cast, overload

from gradcheckd.arrays import encode_arithmetic
from gradcheckd.connection import Connection
from gradcheckd.derivatives import Derivatives
from gradcheckd.errors import InconclusiveGradientWarning, RequestError, count_own_frames, hide_frames
from gradcheckd.function_check import CheckOptions, FunctionCheck
from gradcheckd.function_evaluation import EvaluationProgress
from gradcheckd.gradient_products import GradientArguments
from gradcheckd.hessian import keep_point_form
from gradcheckd.report import BlackBoxReport, ReportT, require_pass
from gradcheckd.signatures import DtypeLike, FunctionOptions, FunctionParameters, copy_signature

__tracebackhide__ = hide_frames

Inconclusive = Literal["raise", "warn"]


class FunctionMethods:
    """Methods of a service that check functions of the caller."""

    connection: Connection
    _on_report: Callable[[Any], None] | None

    # An array is of another type than None, but not for a checker that takes it as Any.
    @overload
    def check_function(  # pyright: ignore[reportOverlappingOverload]
        self,
        function: Callable[..., Any],
        point: Any,
        candidate: None = None,
        *,
        vjp: None = None,
        jvp: None = None,
        jacobian: None = None,
        **options: Unpack[FunctionOptions],
    ) -> Derivatives: ...

    @overload
    def check_function(
        self, function: Callable[..., Any], point: Any, candidate: Any = None, **options: Unpack[FunctionParameters]
    ) -> BlackBoxReport: ...

    def check_function(
        self,
        function: Callable[..., Any],
        point: Any,
        candidate: Any = None,
        *,
        vjp: Any = None,
        jvp: Any = None,
        jacobian: Any = None,
        cotangents: Any = None,
        directions: str | Mapping[str, Any] | None = None,
        scale: Any = None,
        bounds: Any = None,
        tolerance: Mapping[str, float] | None = None,
        seed: int | None = None,
        evaluations: Literal["full", "few"] | None = None,
        candidate_dtype: DtypeLike | None = None,
        relative_error: float | None = None,
        progress: EvaluationProgress | None = None,
    ) -> BlackBoxReport | Derivatives:
        """Judge gradients of a function that stays here, or differentiate it, by its values at points of the service.

        Parameters
        ----------
        function
            Takes a point: `function(array)`, `function(*arrays)` for a tuple or list of arrays, or
            `function(mapping)`. Returns a number, an array, a tuple or list of arrays, or a mapping of names to arrays,
            of the same shapes at every point; None where it has no value. An exception counts as no value, too, except
            at the point itself. The function may be noisy, or in float32.
        point
            Point of the derivatives: an array of floats, a tuple or list of arrays, or a mapping of names to arrays.
            The function gets tensors of torch for tensors of torch, and else arrays of NumPy. On the wire the tensors
            are named "x", or "input0", "input1", ..., or as in the mapping; outputs "y", or "output0", "output1", ...
        candidate
            Your gradient of a function that returns one number: in the form of the point, or a function that takes the
            point in that form and returns it.
        vjp
            Your vector-Jacobian product `vjp(point, cotangents)`, which returns a gradient in the form of the point.
            Both arguments are in the forms of point and outputs (a tuple stays one argument). It is called once for
            each output, with cotangents of 0 for the others. Or the products as arrays, by output and tensor,
            `{"y": {"x": array}}` or in the forms of outputs and point, together with `cotangents`.
        jvp
            Your Jacobian-vector product `jvp(point, tangents)`, which returns tangents in the form of the outputs. It
            is called once for each direction. Or an array of shape directions + output in the form of the outputs, for
            `directions="coordinates"` alone.
        jacobian
            Your Jacobian, or a function of the point that returns it: by output and tensor, each of shape
            output + tensor, as `{"y": {"x": array}}` or in the forms of outputs and point. Implies
            `directions="coordinates"`.
        cotangents
            Cotangents in the form of the outputs, for vjp; by default random ones.
        directions
            "random" (4 of each tensor, the default), "coordinates" (each element), or with a `count` as in the request
            of `POST /v1/plan`.
        scale
            Size of the moves: a number for all; or by name a number, or an array with one for each element; or an
            array, for a point that is one array. Without it the check goes round again with smaller moves, 2^-5 and
            2^-10 of the first, where all differences of a direction are lost to missing values or kinks.
        bounds
            The domain of the function, within which it is evaluated: `{"min": 0, "max": 1}`, one of them or both, each
            a number or an array of the point's shape, infinite where there is no bound; by name where the point is.
        tolerance
            `{"rtol": r, "atol": a}`: allowed error of your gradient, in place of that of rounding.
        evaluations
            "few": evaluate at some of the points first, 23 for one array along random directions and 12 for each
            further one, and at the others only if these do not suffice for a pass. "full": at all of them, 75 for one
            array. By default "few" at points in float64 without a tolerance, else "full", which derivatives always
            take.
        seed, candidate_dtype, relative_error
            As in the requests of `POST /v1/plan` and `POST /v1/judge`.
        progress
            Called with (evaluations done, evaluations in all) of each round; the second grows where the first
            evaluations do not suffice.

        Returns
        -------
        BlackBoxReport or Derivatives
            Verdicts by tensor for a candidate, by "y/x" for vjp and jacobian, by "y" for jvp. Without any of the four
            the derivatives of each output by each tensor, with their error bounds.

        Raises
        ------
        ProblemError
            The service refuses the request, or the function is not finite at the point.
        TensorError
            Point, outputs or gradients are no arrays of floats in one of the forms; complex ones have to be split into
            real and imaginary part.
        FunctionError
            A function changes its input in place, or its outputs change their names or shapes; the message has the
            point.
        RequestError
            Parameters exclude each other.
        Exception
            Any error of your functions at the point itself.
        """
        gradients = GradientArguments(candidate, vjp, jvp, jacobian)
        fields = {
            "candidate_dtype": encode_arithmetic(candidate_dtype),
            "tolerance": tolerance,
            "relative_error": relative_error,
        }
        options = CheckOptions(
            cotangents=cotangents,
            directions=directions,
            scale=scale,
            bounds=bounds,
            seed=seed,
            evaluations=evaluations,
            judge_fields={name: value for name, value in fields.items() if value is not None},
            progress=progress,
        )
        check = FunctionCheck(self.connection, function, point, gradients, options)
        return check.differentiate() if gradients.is_empty else self._deliver_report(check.judge())

    @copy_signature(check_function)
    def assert_function(
        self,
        function: Callable[..., Any],
        point: Any,
        candidate: Any = None,
        *,
        inconclusive: Inconclusive = "raise",
        **options: Unpack[FunctionParameters],
    ) -> BlackBoxReport:
        """Judge gradients of a function, and raise unless they pass; other parameters are those of `check_function`.

        Parameters
        ----------
        function, point, candidate
            As in `check_function`.
        inconclusive
            "raise" an error, or "warn" with an `InconclusiveGradientWarning`, if the check cannot decide.
        options
            Other parameters of `check_function`; one of candidate, vjp, jvp and jacobian is required.

        Raises
        ------
        GradientError
            An AssertionError: a gradient is wrong, or the check was inconclusive; its message is the report.
        RequestError
            There is no gradient to judge.
        """
        if inconclusive not in ("raise", "warn"):
            raise RequestError(f'inconclusive is "raise" or "warn"; {inconclusive!r} was given.')
        result = cast("BlackBoxReport | Derivatives", self.check_function(function, point, candidate, **options))
        if isinstance(result, Derivatives):
            raise RequestError(
                "assert_function was given no gradient of yours. Give candidate, vjp, jvp or jacobian; for numerical "
                "derivatives use check_function."
            )
        if inconclusive == "warn" and result.outcome == "inconclusive":
            warnings.warn(result.summary, InconclusiveGradientWarning, stacklevel=count_own_frames())
            return result
        return require_pass(result)

    @copy_signature(check_function, without=("vjp", "jvp", "jacobian"))
    def check_hessian(
        self,
        gradient: Callable[..., Any],
        point: Any,
        hvp: Any = None,
        hessian: Any = None,
        **options: Unpack[FunctionOptions],
    ) -> BlackBoxReport | Derivatives:
        """Judge second derivatives by differences of your gradient, or return them.

        Parameters
        ----------
        gradient
            Your gradient of a function with one number: takes a point as the function of `check_function` does, and
            returns the gradient in the form of the point. It is taken as correct; judge it with `check_function`.
        point
            As in `check_function`.
        hvp
            Your Hessian-vector product `hvp(point, direction)`, both in the form of the point, as is its result. It is
            judged twice: along directions as a Jacobian-vector product, and, since a Hessian is symmetric, as a
            vector-Jacobian product. The report holds both against each other, too.
        hessian
            Your Hessian, or a function of the point that returns it: by two tensors in turn, each of shape
            tensor + tensor, judged element by element.
        options
            Other parameters of `check_function`, except its gradients.

        Returns
        -------
        BlackBoxReport or Derivatives
            Verdicts on the products or the Hessian. Without hvp and hessian the Hessian with its error bounds. It is
            not made symmetric: elements (i, j) and (j, i) come from different differences, each with its own bound, and
            they differ by more than both bounds only if your gradient is not a gradient.

        Raises
        ------
        RequestError
            Both hvp and hessian were given, or hvp is no function.
        TensorError
            The gradient has another form than the point.
        """
        if hvp is not None and hessian is not None:
            raise RequestError("hvp and hessian are judged one at a time. Call check_hessian once with each.")
        if hvp is not None and not callable(hvp):
            raise RequestError(
                "hvp is a function, hvp(point, direction). Give arrays of second derivatives as hessian."
            )
        return self.check_function(
            keep_point_form(gradient, point), point, vjp=hvp, jvp=hvp, jacobian=hessian, **options
        )

    def _deliver_report(self, report: ReportT) -> ReportT:
        if self._on_report is not None:
            self._on_report(report)
        return report
