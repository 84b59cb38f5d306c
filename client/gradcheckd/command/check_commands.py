"""`gradcheckd check`, `plan` and `judge`."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast

from gradcheckd import wire
from gradcheckd.command import progress_bar, request_files
from gradcheckd.command.model_import import import_model
from gradcheckd.command.output import get_terminal_columns, write_text
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError
from gradcheckd.job import submit_job
from gradcheckd.page import render_page
from gradcheckd.progress import decode_arrays, follow_progress
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.wire import JSON, MARKDOWN, NDJSON, SAFETENSORS, TEXT, TEXT_ENTRY, Body

_EXIT_STATUSES = {"pass": 0, "fail": 1, "inconclusive": 2}
_TEXT_MEDIA_TYPES = {"text": TEXT, "markdown": MARKDOWN}


def run_check(arguments: Namespace) -> int:
    """Check a request, and write the report."""
    sections = ("tensors", "weights", "candidate")
    request = _apply_overrides(
        request_files.read_request(arguments.file, sections, partial(import_model, arguments)), arguments
    )
    needs_gradients = arguments.format == "html" or arguments.verbose
    body = (_include_gradients(request) if needs_gradients else request).to_body()
    with connect(arguments) as connection:
        if arguments.detach:
            return _detach(connection, body)
        text_media_type = choose_text_form(arguments)
        accept = wire.add_report_parameter(NDJSON, text_media_type) if text_media_type else NDJSON
        with progress_bar.show_progress() as progress:
            last_event = follow_progress(connection.post_for_lines("/v1/check", body, accept), progress)
        raw = last_event["report"]
        status = get_exit_status(raw)
        if text_media_type:
            # A service that is older than this client does not write both at once.
            text = last_event.get(TEXT_ENTRY) or connection.post("/v1/check", body, text_media_type).decode()
        else:
            text = json.dumps(raw) if arguments.format == "json" else render_report_page(raw)
    write_text(text, arguments.output)
    return status


def _detach(connection: Connection, body: Body) -> int:
    """Let the request become a job, and write its name."""
    identifier = submit_job(connection, body).id
    write_text(identifier)
    print(f"gradcheckd: `gradcheckd wait {identifier}` writes the report.", file=sys.stderr)
    return 0


def choose_text_form(arguments: Namespace) -> str | None:
    """Return the media type of a report for reading, with its width and its details; None for another format."""
    media_type = _TEXT_MEDIA_TYPES.get(arguments.format)
    if media_type is None:
        return None
    columns = get_terminal_columns(arguments.output) if media_type == TEXT else None
    width = f"; columns={columns}" if columns else ""
    return f"{media_type}{width}{'; detail=full' if arguments.verbose else ''}"


def render_report_page(raw: Mapping[str, Any]) -> str:
    """Return the page of a report in JSON."""
    arrays = decode_arrays(raw)
    with wire.UnexpectedAnswerGuard():
        report = Report.read(arrays, str)
    return render_page(report)


def get_exit_status(raw: Mapping[str, Any]) -> int:
    """Return the exit status of a report."""
    with wire.UnexpectedAnswerGuard():
        return _EXIT_STATUSES[raw["outcome"]]


def _include_gradients(request: request_files.RequestFile) -> request_files.RequestFile:
    """Return the request with gradients in its answer, which heat maps and details show."""
    include = request.fields.get("include")
    if not isinstance(include, list) or "gradients" in include:
        return request
    return request.with_fields(include=[*cast("list[Any]", include), "gradients"])


def run_plan(arguments: Namespace) -> int:
    """Plan the points at which to evaluate a loss, and write the plan."""
    if arguments.points == "-" and arguments.output in (None, "-"):
        raise RequestError("The points and the plan do not both go to standard output: name a file, --output FILE.")
    body = _apply_scales_and_bounds(
        _apply_overrides(request_files.read_request(arguments.file, ("point",)), arguments), arguments
    ).to_body()
    with connect(arguments) as connection:
        if not arguments.points:
            write_text(connection.post("/v1/plan", body, JSON).decode(), arguments.output)
            return 0
        points, plan_answer = wire.read_safetensors_report(connection.post("/v1/plan", body, SAFETENSORS))
    with wire.UnexpectedAnswerGuard():
        ordered_points = {name: points[f"points/{name}"] for name in plan_answer["order"]}
        columns = request_files.describe_columns({name: array.shape[1:] for name, array in ordered_points.items()})
        flat_points = [array.reshape(plan_answer["evaluations"], -1) for array in ordered_points.values()]
    lines = (
        " ".join(repr(float(number)) for rows in flat_points for number in rows[index])
        for index in range(plan_answer["evaluations"])
    )
    write_text("\n".join([f"# {columns}", *lines]), arguments.points)
    write_text(json.dumps(plan_answer), arguments.output)
    if len(flat_points) > 1:
        print(f"gradcheckd: the points have, in {columns}", file=sys.stderr)
    return 0


def run_judge(arguments: Namespace) -> int:
    """Judge a gradient by losses, and write the report."""
    request = request_files.read_request(arguments.file, ("candidate",))
    if arguments.losses:
        request = request.with_only_fields("plan").with_fields(losses=request_files.read_losses(arguments.losses))
    if arguments.tolerance:
        request = request.with_fields(tolerance=_parse_tolerance(arguments.tolerance))
    body = _apply_overrides(request, arguments).to_body()
    with connect(arguments) as connection:
        content = connection.post("/v1/judge", body, JSON)
        with wire.UnexpectedAnswerGuard():
            raw: dict[str, Any] = wire.load_json(content)
        status = get_exit_status(raw)
        write_text(_write_judgement(arguments, raw, connection, body), arguments.output)
    return status


def _write_judgement(arguments: Namespace, raw: dict[str, Any], connection: Connection, body: Body) -> str:
    if text_media_type := choose_text_form(arguments):
        return connection.post("/v1/judge", body, text_media_type).decode()
    if arguments.format == "json":
        return json.dumps(raw)
    with wire.UnexpectedAnswerGuard():
        report = BlackBoxReport.read(raw, str)
    return render_page(report)


def connect(arguments: Namespace) -> Connection:
    """Return a connection to the service of the arguments."""
    return Connection(arguments.url, arguments.key, timeout=arguments.timeout)


def _apply_overrides(request: request_files.RequestFile, arguments: Namespace) -> request_files.RequestFile:
    """Replace the fields and candidates that arguments give."""
    for text in arguments.set:
        field, equals, value = text.partition("=")
        if not equals:
            raise RequestError(f"--set takes FIELD=JSON, as in --set dtype=float32; {text!r} was given.")
        request = request.with_fields(**{field: _parse_field_value(value)})
    for text in getattr(arguments, "candidate", ()):
        name, equals, path = text.partition("=")
        if equals and not (name and path):
            raise RequestError(f"--candidate takes NAME=FILE, as in --candidate w1=gradient.txt; {text!r} was given.")
        request = request.with_candidate(*((name, path) if equals else (None, name)))
    return request


def _apply_scales_and_bounds(request: request_files.RequestFile, arguments: Namespace) -> request_files.RequestFile:
    """Add the scales and bounds that arguments give."""
    shapes = request.list_shapes("point")
    scales = _parse_by_name("--scale", arguments.scale, shapes)
    bounds: dict[str, Any] = {}
    for side in ("min", "max"):
        for name, value in _parse_by_name(f"--{side}", getattr(arguments, side), shapes).items():
            bounds.setdefault(name, {})[side] = value
    fields = {"scale": scales, "bounds": bounds}
    return (
        request.with_fields(**{field: value for field, value in fields.items() if value})
        if scales or bounds
        else request
    )


def _parse_by_name(option: str, texts: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Parse numbers or tensors by name; a value without a name is for every tensor of the point."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not value or (equals and not name):
            raise RequestError(f"{option} takes [NAME=]NUMBER or [NAME=]FILE, as in {option} w=0; {text!r} was given.")
        for target in [name] if equals else shapes:
            values[target] = request_files.parse_number_or_tensor(value, shapes.get(target))
    return values


def _parse_tolerance(text: str) -> dict[str, float]:
    """Parse the relative and the absolute tolerance, which may be left out."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise RequestError(f"--tolerance takes RTOL or RTOL,ATOL, as in --tolerance 1e-4; {text!r} was given.")
    return dict(zip(("rtol", "atol"), numbers, strict=False))


def _parse_field_value(text: str) -> Any:
    """Parse the value of a field: JSON, or else the text itself, so that names need no quotes."""
    try:
        return wire.load_json(text)
    except ValueError:
        return text
