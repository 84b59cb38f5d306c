"""A service, and its requests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, Unpack, cast, overload

from gradcheckd import wire
from gradcheckd.arrays import TypedTensor, UntypedTensor, encode_recipe, get_dtype_name, to_tensor
from gradcheckd.candidate_runs import run_candidate
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError, hide_frames
from gradcheckd.function_methods import FunctionMethods
from gradcheckd.imported_request import ImportedRequest
from gradcheckd.job import Job, find_job, list_jobs, submit_job
from gradcheckd.onnx_file import import_file
from gradcheckd.progress import Progress, decode_arrays, follow_progress
from gradcheckd.report import BlackBoxReport, Report, require_pass
from gradcheckd.signatures import CheckParameters, DtypeLike, Tensors, copy_signature
from gradcheckd.wire import NDJSON, SAFETENSORS, TEXT, TEXT_ENTRY

__tracebackhide__ = hide_frames

_LARGE_WEIGHT_COUNT = 50_000
"""Numbers of all weights from which on the service chooses between elements and directions."""


class Service(FunctionMethods):
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

    @overload
    def check(
        self, *, wait: Literal[False], idempotency_key: str | None = None, **request: Unpack[CheckParameters]
    ) -> Job: ...

    @overload
    def check(self, *, wait: Literal[True] = True, **request: Unpack[CheckParameters]) -> Report: ...

    def check(
        self,
        *,
        tensors: Tensors | None = None,
        weights: Tensors | None = None,
        model: str | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        candidate: Tensors | Callable[[], Tensors] | None = None,
        with_respect_to: Sequence[str] | None = None,
        candidate_dtype: DtypeLike | Mapping[str, Any] | None = None,
        repeats: Mapping[str, Sequence[Any]] | int | None = None,
        dtype: DtypeLike | None = None,
        finite_difference: Mapping[str, Any] | None = None,
        tolerance: Mapping[str, float] | None = None,
        include: Sequence[str] | None = None,
        seed: int | None = None,
        progress: Progress | None = None,
        wait: bool = True,
        idempotency_key: str | None = None,
        **further: Any,
    ) -> Report | Job:
        """Check gradients by three independent routes.

        Parameters
        ----------
        tensors, weights
            Inputs, targets and masks; and the trained tensors. Any shape.
        model
            A preset's name, a graph `{"nodes": [...]}`, its nodes, or a text with a node a line, as in
            `h = linear(x, w, b)`, the loss last; by default the reference example.
        candidate
            Your own gradients, by name, or a function that computes them, in new arrays each time. Each is judged in
            place of the service's.
        repeats
            Further runs of the program that computed the candidate, lists of gradients by name: what differs from run
            to run beyond rounding fails. With a function, the number of its further runs.
        with_respect_to, candidate_dtype, dtype, finite_difference, tolerance, include, seed
            As in the request of `POST /v1/check`, whose defaults they have. For weights of 50,000 numbers or more in
            arrays, `finite_difference` is `{"method": "auto"}` by default: all elements where the service's limits
            allow, else random directions.
        progress
            Called with (name, evaluations done, evaluations foreseen) while the check runs.
        wait
            False to let the check go on at the service as a job, and return the `Job`; True by default.
        idempotency_key
            Name of the job's request, so that a repetition of it makes no second job.
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
        sections = {"tensors": _to_tensors("tensors", tensors), "weights": _to_tensors("weights", weights)}
        fields = {
            "model": _encode_model(model),
            "with_respect_to": _check_names("with_respect_to", with_respect_to),
            "candidate_dtype": encode_recipe(candidate_dtype),
            "dtype": None if dtype is None else get_dtype_name(dtype),
            "finite_difference": finite_difference or _choose_difference(sections["weights"].values()),
            "tolerance": tolerance,
            "include": _check_names("include", include),
            "seed": seed,
            # Lines of JSON have base64; in the other form tensors are bytes in any case.
            "encoding": "b64" if progress and wait else None,
            **further,
        }
        candidate, repeats = run_candidate(candidate, repeats)
        if candidate is not None:
            sections["candidate"] = _to_tensors("candidate", candidate)
        if repeats is not None:
            sections["repeats"] = _to_tensors("repeats", repeats)
        body = wire.encode_body(_drop_missing(fields), sections)
        if not wait:
            return submit_job(self.connection, body, self._deliver_report, idempotency_key)
        return self.check_body(body, progress)

    def job(self, identifier: str) -> Job:
        """Return a job by its `id`.

        Raises
        ------
        ProblemError
            You have no such job.
        """
        return find_job(self.connection, identifier, self._deliver_report)

    def jobs(self) -> list[Job]:
        """Return your jobs, the latest first."""
        return list_jobs(self.connection, self._deliver_report)

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

    @copy_signature(check, without=("wait", "idempotency_key"))
    def assert_gradients(self, **request: Unpack[CheckParameters]) -> Report:
        """Check your gradients, and raise unless they pass; parameters are those of `check`, with a `candidate`.

        Raises
        ------
        GradientError
            An AssertionError: a gradient is wrong, or the check was inconclusive; its message is the report.
        RequestError
            There is no candidate, so that no gradient of yours would be judged.
        """
        candidate, repeats = run_candidate(request.get("candidate"), request.get("repeats"))
        if not _check_mapping("candidate", candidate):
            raise RequestError(
                "assert_gradients was given no gradient of yours, and without one it would pass whatever you computed. "
                'Give it as candidate={"name": array}; to check the gradients of the service itself, use check.'
            )
        return require_pass(self.check(**{**request, "candidate": candidate, "repeats": repeats}))

    def from_onnx(self, path: str | PathLike[str], *, loss: str = "projection", seed: int = 0) -> ImportedRequest:
        """Make the request of a check of an ONNX file: `check(**from_onnx("model.onnx"))`.

        Parameters
        ----------
        path
            Path of the file.
        loss
            "projection": a single output of one element is the loss, else each output is multiplied by random numbers,
            and the sums are added. Or the name of a value of the model, to take in place of its outputs.
        seed
            Seed of the random values of inputs and of these numbers.

        Raises
        ------
        ProblemError
            The service refuses the file; the error lists every operator that is not taken.
        RequestError
            The file cannot be read.
        """
        return import_file(self.connection, path, loss, seed)

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


def _choose_difference(weights: Iterable[TypedTensor | UntypedTensor]) -> dict[str, str] | None:
    """Choose the differences of a check without a choice of its own; None for those of the service."""
    count = sum(weight.array.size for weight in weights if isinstance(weight, TypedTensor))
    return {"method": "auto"} if count >= _LARGE_WEIGHT_COUNT else None


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
    """Encode a model in any of its forms."""
    if model is None or isinstance(model, str | Mapping):
        return cast("Any", model)
    if not isinstance(model, Sequence):
        raise RequestError(
            'model is the name of a preset, a text with a node a line, a graph {"nodes": [...]}, or a list of its '
            f"nodes; {_describe_given(model)}."
        )
    return list(cast("Sequence[Any]", model))


def _check_names(field: str, names: object) -> list[Any] | None:
    if names is None:
        return None
    # A text is a sequence of letters, but nobody means that.
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise RequestError(f'{field} is a list of names, {field}=["w"]; {_describe_given(names)}.')
    return list(cast("Iterable[Any]", names))


def _describe_given(value: object) -> str:
    return f"{repr(value)[:40]} ({type(value).__qualname__}) was given"
