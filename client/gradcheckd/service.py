"""A service, and its requests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

from gradcheckd import wire
from gradcheckd.arrays import BY_NUMPY_NAME, TypedTensor, UntypedTensor, get_dtype_name, to_tensor
from gradcheckd.blackbox import (
    EvaluationProgress,
    FunctionProblem,
    encode_bounds,
    encode_scales,
    evaluate_losses,
    request_judgement,
    request_plan,
)
from gradcheckd.connection import Connection
from gradcheckd.errors import GradientError, RequestError, hide_frames
from gradcheckd.progress import Progress, decode_arrays, follow_progress
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.signatures import CheckParameters, DtypeLike, FunctionParameters, Tensors, copy_signature
from gradcheckd.wire import NDJSON, SAFETENSORS, TEXT, TEXT_ENTRY

__tracebackhide__ = hide_frames

ReportT = TypeVar("ReportT", Report, BlackBoxReport)


class Service:
    """A client of one service; a context manager that closes it.

    Parameters
    ----------
    url, key, timeout, retry_seconds
        Address and key of the service, seconds to wait for an answer, and seconds for which to repeat a request while
        the service is full. Without an address, the service runs in this process if it is installed here.
    on_report
        Function to call with every report.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 150.0,
        retry_seconds: float = 30.0,
        on_report: Callable[[Report | BlackBoxReport], None] | None = None,
    ) -> None:
        self.connection = Connection(url, key, timeout=timeout, retry_seconds=retry_seconds)
        self._on_report = on_report

    @classmethod
    def from_connection(cls, connection: Connection) -> Self:
        """Make a client that uses a connection."""
        service = cls.__new__(cls)
        service.connection, service._on_report = connection, None
        return service

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()

    @property
    def url(self) -> str:
        """Return the address of the service, or "in this process"."""
        return self.connection.url

    def check(
        self,
        *,
        tensors: Tensors | None = None,
        weights: Tensors | None = None,
        model: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        candidate: Tensors | None = None,
        with_respect_to: Sequence[str] | None = None,
        candidate_dtype: DtypeLike | None = None,
        dtype: DtypeLike | None = None,
        finite_difference: Mapping[str, Any] | None = None,
        tolerance: Mapping[str, float] | None = None,
        include: Sequence[str] | None = None,
        seed: int | None = None,
        progress: Progress | None = None,
        **further: Any,
    ) -> Report:
        """Check gradients by three independent routes.

        Parameters
        ----------
        tensors, weights
            Inputs, targets and masks; and the trained tensors. Any shape.
        model
            A preset's name, a graph `{"nodes": [...]}`, or its nodes; by default the reference example.
        candidate
            Your own gradients, by name; each is judged in place of the service's.
        with_respect_to, candidate_dtype, dtype, finite_difference, tolerance, include, seed
            As in the request of `POST /v1/check`, whose defaults they have.
        progress
            Called with (name, evaluations done, evaluations foreseen) while the check runs.
        further
            Other fields of the request.

        Raises
        ------
        ProblemError
            The service refuses the request; the error lists the wrong places.
        TensorError
            A tensor cannot be sent.
        UnreachableError
            There is no service.
        """
        fields = {
            "model": _encode_model(model),
            "with_respect_to": _check_names("with_respect_to", with_respect_to),
            "candidate_dtype": _encode_candidate_dtype(candidate_dtype),
            "dtype": None if dtype is None else get_dtype_name(dtype),
            "finite_difference": finite_difference,
            "tolerance": tolerance,
            "include": _check_names("include", include),
            "seed": seed,
            # Lines of JSON have base64; in the other form tensors are bytes in any case.
            "encoding": "b64" if progress else None,
            **further,
        }
        sections = {"tensors": _to_tensors("tensors", tensors), "weights": _to_tensors("weights", weights)}
        if candidate is not None:
            sections["candidate"] = _to_tensors("candidate", candidate)
        return self.check_body(wire.encode_body(_drop_missing(fields), sections), progress)

    def check_body(self, body: wire.Body, progress: Progress | None = None) -> Report:
        """Check the request in a body."""
        if progress is None:
            content = self.connection.post("/v1/check", body, wire.add_report_parameter(SAFETENSORS, TEXT))
            raw, text = wire.assemble_report(content), wire.read_text_entry(content)
        else:
            last_event = follow_progress(
                self.connection.post_for_lines("/v1/check", body, wire.add_report_parameter(NDJSON, TEXT)), progress
            )
            raw, text = decode_arrays(last_event["report"]), last_event.get(TEXT_ENTRY)
        with wire.UnexpectedAnswerGuard():
            report = Report.read(raw, self.connection.prepare_repeat("/v1/check", body), text)
        return self._deliver_report(report)

    @copy_signature(check)
    def assert_gradients(self, **request: Unpack[CheckParameters]) -> Report:
        """Check your gradients, and raise unless they pass; parameters are those of `check`, with a `candidate`.

        Raises
        ------
        GradientError
            An AssertionError: a gradient is wrong, or the check was inconclusive; its message is the report.
        RequestError
            There is no candidate, so that no gradient of yours would be judged.
        """
        if not _check_mapping("candidate", request.get("candidate")):
            raise RequestError(
                "assert_gradients was given no gradient of yours, and without one it would pass whatever you computed. "
                'Give it as candidate={"name": array}; to check the gradients of the service itself, use check.'
            )
        return require_pass(self.check(**request))

    def check_function(
        self,
        loss: Callable[[Any], Any],
        point: Any,
        gradient: Any,
        *,
        directions: str | Mapping[str, Any] | None = None,
        scale: Any = None,
        bounds: Mapping[str, Any] | None = None,
        tolerance: Mapping[str, float] | None = None,
        seed: int | None = None,
        candidate_dtype: DtypeLike | None = None,
        relative_error: float | None = None,
        progress: EvaluationProgress | None = None,
    ) -> BlackBoxReport:
        """Judge the gradient of a function that stays here, by its values at points of the service.

        Parameters
        ----------
        loss
            Takes a point, and returns a number, or None where it has no value (away from the point itself). It may be
            noisy, or in float32.
        point
            Point of the gradient: an array of floats, or a mapping of names to arrays. The loss gets tensors of torch
            for tensors of torch, and else arrays of NumPy.
        gradient
            Your gradient at that point, in the same form; or a function of the point that returns it.
        directions
            "random" (4 of each tensor, the default), "coordinates" (each element), or with a `count` as in the request
            of `POST /v1/plan`.
        scale
            Size of the moves: a number for all; or by name a number, or an array with one for each element; or an
            array, for a point that is one array.
        bounds
            The domain of the loss, within which it is evaluated: `{"min": 0, "max": 1}`, one of them or both, each a
            number or an array of the point's shape, infinite where there is no bound; by name where the point is.
        tolerance
            `{"rtol": r, "atol": a}`: allowed error of your gradient, in place of that of rounding.
        seed, candidate_dtype, relative_error
            As in the requests of `POST /v1/plan` and `POST /v1/judge`.
        progress
            Called with (evaluations done, evaluations in all).

        Raises
        ------
        ProblemError
            The service refuses the request, or a loss is not finite.
        TensorError
            Point or gradient cannot be sent.
        Exception
            Any error of the loss.
        """
        problem = FunctionProblem.from_arguments(loss, point, gradient)
        plan_fields = {
            "directions": {"kind": directions} if isinstance(directions, str) else directions,
            "scale": encode_scales(scale, problem.point),
            "bounds": encode_bounds(bounds, problem.point, unnamed=not isinstance(point, Mapping)),
            "seed": seed,
        }
        plan = request_plan(self.connection, problem.point, _drop_missing(plan_fields))
        losses = evaluate_losses(problem, plan, progress)
        fields = _drop_missing(
            {
                "candidate_dtype": _encode_candidate_dtype(candidate_dtype),
                "tolerance": tolerance,
                "relative_error": relative_error,
            }
        )
        content, body = request_judgement(self.connection, plan, losses, problem.gradient, fields)
        with wire.UnexpectedAnswerGuard():
            report = BlackBoxReport.read(wire.load_json(content), self.connection.prepare_repeat("/v1/judge", body))
        return self._deliver_report(report)

    @copy_signature(check_function)
    def assert_function(
        self, loss: Callable[[Any], Any], point: Any, gradient: Any, **options: Unpack[FunctionParameters]
    ) -> BlackBoxReport:
        """Judge the gradient of a function, and raise unless it passes; parameters are those of `check_function`.

        Raises
        ------
        GradientError
            An AssertionError: the gradient is wrong, or the check was inconclusive; its message is the report.
        """
        return require_pass(self.check_function(loss, point, gradient, **options))

    def models(self) -> list[dict[str, Any]]:
        """List the presets, each with its name, its description, and a request that can be posted."""
        return self._list_catalogue("models")

    def ops(self) -> list[dict[str, Any]]:
        """List the ops of the model language, each with its inputs, its attributes and its derivation."""
        return self._list_catalogue("ops")

    def _list_catalogue(self, kind: str) -> list[dict[str, Any]]:
        answer = self.connection.get_json(f"/v1/{kind}")
        with wire.UnexpectedAnswerGuard():
            return [dict(entry) for entry in answer[kind]]

    def _deliver_report(self, report: ReportT) -> ReportT:
        if self._on_report is not None:
            self._on_report(report)
        return report


def require_pass(report: ReportT) -> ReportT:
    """Return a report that passes.

    Raises
    ------
    GradientError
        The report does not pass.
    """
    if not report.passed:
        raise GradientError(report, report.text())
    return report


def _drop_missing(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the fields that were left out."""
    return {name: value for name, value in fields.items() if value is not None}


def _to_tensors(section: str, tensors: Tensors | None) -> dict[str, TypedTensor | UntypedTensor]:
    return {name: to_tensor(value, f"{section} {name!r}") for name, value in _check_mapping(section, tensors).items()}


def _check_mapping(section: str, mapping: object) -> Tensors:
    """Check that a value is a mapping of names; None stands for an empty one."""
    if mapping is None:
        return {}
    if not isinstance(mapping, Mapping):
        raise RequestError(
            f'{section} is a mapping of names to arrays, {section}={{"w": array}}; {_describe_given(mapping)}.'
        )
    named_tensors = cast("Mapping[Any, Any]", mapping)
    for name in named_tensors:
        if not isinstance(name, str):
            raise RequestError(f"{section} is a mapping of names to arrays; as a name {name!r} was given.")
    return named_tensors


def _encode_model(model: object) -> Any:
    """Encode a model: a list of nodes becomes a graph."""
    if model is None or isinstance(model, str | Mapping):
        return cast("Any", model)
    if not isinstance(model, Sequence):
        raise RequestError(
            f'model is the name of a preset, a graph {{"nodes": [...]}}, or a list of its nodes; '
            f"{_describe_given(model)}."
        )
    return {"nodes": list(cast("Sequence[Any]", model))}


def _check_names(field: str, names: object) -> list[Any] | None:
    if names is None:
        return None
    # A text is a sequence of letters, but nobody means that.
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise RequestError(f'{field} is a list of names, {field}=["w"]; {_describe_given(names)}.')
    return list(cast("Iterable[Any]", names))


def _encode_candidate_dtype(dtype: object) -> str | None:
    """Encode the arithmetic of a candidate, which has the name of the datatype of tensors on the wire."""
    if dtype is None:
        return None
    name = get_dtype_name(dtype)
    return BY_NUMPY_NAME[name].name if name in BY_NUMPY_NAME else name


def _describe_given(value: object) -> str:
    return f"{repr(value)[:40]} ({type(value).__qualname__}) was given"
