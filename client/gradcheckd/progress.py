"""The progress of a check, from lines of JSON."""

from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np

from gradcheckd import wire
from gradcheckd.arrays import BY_NAME
from gradcheckd.errors import ProblemError, UnexpectedAnswerError, hide_frames

__tracebackhide__ = hide_frames

Progress = Callable[[str, int, int], None]
"""Called with the name of the moved tensor, evaluations done, and evaluations foreseen."""


def follow_progress(lines: Iterable[str], progress: Progress) -> dict[str, Any]:
    """Report each step, and return the last line: the `report`, and the `text` if the request accepts one.

    Raises
    ------
    ProblemError
        The check failed on the way.
    UnexpectedAnswerError
        The lines ended without a report, or one of them has another form.
    """
    for line in lines:
        event = _parse_event(line)
        if isinstance(event, ProblemError):
            raise event
        if isinstance(event, dict):
            return event
        progress(*event)
    raise UnexpectedAnswerError("The answer broke off before the report. See the log of the service.")


def _parse_event(line: str) -> tuple[str, int, int] | ProblemError | dict[str, Any]:
    """Parse a line: a step, a problem, or the last line itself."""
    with wire.UnexpectedAnswerGuard():
        event = wire.load_json(line)
        if event["event"] == "progress":
            return event["tensor"], event["done"], event["total"]
        if event["event"] == "problem":
            return ProblemError(event["problem"])
        # A last line without a report is an error.
        dict(event["report"])
        return event


def decode_arrays(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report in JSON with its tensors as arrays."""
    with wire.UnexpectedAnswerGuard():
        parts = {
            part: {
                name: {route: decode_array(tensor) for route, tensor in routes.items()}
                for name, routes in raw[part].items()
            }
            for part in ("gradients", "intermediates")
        }
    return dict(raw) | parts


def decode_array(value: Any) -> Any:
    """Decode a tensor of an answer: nested numbers, some of them spelled, or an object with base64."""
    if isinstance(value, Mapping):
        tensor_object = cast("Mapping[str, Any]", value)
        datatype = BY_NAME[tensor_object["datatype"]]
        storage = np.frombuffer(b64decode(tensor_object["b64"]), datatype.storage_dtype)
        return datatype.from_storage(storage.reshape(tensor_object["shape"]))
    # NumPy parses spelled numbers, which are strings.
    array = np.asarray(value).astype(np.float64)
    array.flags.writeable = False
    return array
