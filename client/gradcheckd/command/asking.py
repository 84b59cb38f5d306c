"""`gradcheckd check`, `plan` and `judge`."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any, cast

from gradcheckd import wire
from gradcheckd.command import bar, files
from gradcheckd.command.output import write
from gradcheckd.connection import Connection
from gradcheckd.errors import RequestError
from gradcheckd.page import page
from gradcheckd.progress import followed, with_arrays
from gradcheckd.report import BlackBoxReport, Report
from gradcheckd.wire import JSON, MARKDOWN, NDJSON, READABLE, SAFETENSORS, TEXT, Body

_STATUS = {"pass": 0, "fail": 1, "inconclusive": 2}
_READ = {"text": TEXT, "markdown": MARKDOWN}


def check(given: Namespace) -> int:
    """Check a request, and write the report."""
    request = _changed(files.read(given.file, ("tensors", "weights", "candidate")), given)
    body = (_with_gradients(request) if given.format == "html" else request).body()
    with _connected(given) as connection:
        form = _READ.get(given.format)
        accept = wire.beside(NDJSON, form) if form else NDJSON
        with bar.shown() as progress:
            last = followed(connection.lines("/v1/check", body, accept), progress)
        raw = last["report"]
        status = _status(raw)
        if form:
            # A service that is older than this client does not write both at once.
            text = last.get(READABLE) or connection.post("/v1/check", body, form).decode()
        else:
            text = json.dumps(raw) if given.format == "json" else _page(raw)
    write(text, given.output)
    return status


def _page(raw: Mapping[str, Any]) -> str:
    arrays = with_arrays(raw)
    with wire.expected():
        report = Report.read(arrays, str)
    return page(report)


def _status(raw: Mapping[str, Any]) -> int:
    with wire.expected():
        return _STATUS[raw["outcome"]]


def _with_gradients(request: files.Given) -> files.Given:
    """The request, of which the answer has what heat maps are drawn of."""
    include = request.fields.get("include")
    if not isinstance(include, list) or "gradients" in include:
        return request
    return request.replaced(include=[*cast("list[Any]", include), "gradients"])


def plan(given: Namespace) -> int:
    """Plan where a loss is to be evaluated, and write the plan."""
    if given.points == "-" and given.output in (None, "-"):
        raise RequestError("The points and the plan do not both go to standard output: name a file, --output FILE.")
    body = _moved(_changed(files.read(given.file, ("point",)), given), given).body()
    with _connected(given) as connection:
        if not given.points:
            write(connection.post("/v1/plan", body, JSON).decode(), given.output)
            return 0
        points, rest = wire.unpacked(connection.post("/v1/plan", body, SAFETENSORS))
    with wire.expected():
        ordered = {name: points[f"points/{name}"] for name in rest["order"]}
        columns = files.columns({name: each.shape[1:] for name, each in ordered.items()})
        flat = [each.reshape(rest["evaluations"], -1) for each in ordered.values()]
    lines = (" ".join(repr(float(number)) for rows in flat for number in rows[at]) for at in range(rest["evaluations"]))
    write("\n".join([f"# {columns}", *lines]), given.points)
    write(json.dumps(rest), given.output)
    if len(flat) > 1:
        print(f"gradcheckd: the points have, in {columns}", file=sys.stderr)
    return 0


def judge(given: Namespace) -> int:
    """Judge a gradient by losses, and write the report."""
    request = files.read(given.file, ("candidate",))
    if given.losses:
        request = request.kept("plan").replaced(losses=files.losses(given.losses))
    if given.tolerance:
        request = request.replaced(tolerance=_tolerance(given.tolerance))
    body = _changed(request, given).body()
    with _connected(given) as connection:
        content = connection.post("/v1/judge", body, JSON)
        with wire.expected():
            raw: dict[str, Any] = wire.loaded(content)
        status = _status(raw)
        write(_judgement(given.format, raw, connection, body), given.output)
    return status


def _judgement(form: str, raw: dict[str, Any], connection: Connection, body: Body) -> str:
    if form in _READ:
        return connection.post("/v1/judge", body, _READ[form]).decode()
    if form == "json":
        return json.dumps(raw)
    with wire.expected():
        report = BlackBoxReport.read(raw, str)
    return page(report)


def _connected(given: Namespace) -> Connection:
    return Connection(given.url, given.key, timeout=given.timeout)


def _changed(request: files.Given, given: Namespace) -> files.Given:
    """The request with the fields and candidates that arguments replace."""
    for text in given.set:
        field, equals, value = text.partition("=")
        if not equals:
            raise RequestError(f"--set takes FIELD=JSON, as in --set dtype=float32; {text!r} was given.")
        request = request.replaced(**{field: _value(value)})
    for text in getattr(given, "candidate", ()):
        name, equals, path = text.partition("=")
        if equals and not (name and path):
            raise RequestError(f"--candidate takes NAME=FILE, as in --candidate w1=gradient.txt; {text!r} was given.")
        request = request.with_candidate(*((name, path) if equals else (None, name)))
    return request


def _moved(request: files.Given, given: Namespace) -> files.Given:
    """The request with the scales and bounds that arguments give."""
    shapes = request.shapes("point")
    scales = _by_name("--scale", given.scale, shapes)
    bounds: dict[str, Any] = {}
    for side in ("min", "max"):
        for name, value in _by_name(f"--{side}", getattr(given, side), shapes).items():
            bounds.setdefault(name, {})[side] = value
    fields = {"scale": scales, "bounds": bounds}
    return (
        request.replaced(**{field: value for field, value in fields.items() if value}) if scales or bounds else request
    )


def _by_name(option: str, texts: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Numbers or tensors, by name: of what is given without a name, for every tensor of the point."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not value or (equals and not name):
            raise RequestError(f"{option} takes [NAME=]NUMBER or [NAME=]FILE, as in {option} w=0; {text!r} was given.")
        for each in [name] if equals else shapes:
            found[each] = files.number_or_tensor(value, shapes.get(each))
    return found


def _tolerance(text: str) -> dict[str, float]:
    """Relative and absolute tolerance, of which the latter may be left out."""
    try:
        numbers = [float(each) for each in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2):
        raise RequestError(f"--tolerance takes RTOL or RTOL,ATOL, as in --tolerance 1e-4; {text!r} was given.")
    return dict(zip(("rtol", "atol"), numbers, strict=False))


def _value(text: str) -> Any:
    """A field's value: JSON, or else the text itself, so that names need no quotes."""
    try:
        return wire.loaded(text)
    except ValueError:
        return text
