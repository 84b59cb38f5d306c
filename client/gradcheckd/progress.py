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
"""Told of the name that is moved, evaluations done, and evaluations foreseen."""


def follow_progress(lines: Iterable[str], progress: Progress) -> dict[str, Any]:
    """Tell of each step, and return the last line: the `report` as it came, and the `text` if that was asked for.

    Raises
    ------
    ProblemError
        Something went wrong on the way.
    UnexpectedAnswerError
        The lines ended without a report, or one of them is not as it should be.
    """
    for line in lines:
        found = _parse_event(line)
        if isinstance(found, ProblemError):
            raise found
        if isinstance(found, dict):
            return found
        progress(*found)
    raise UnexpectedAnswerError("The answer broke off before the report. See the log of the service.")


def _parse_event(line: str) -> tuple[str, int, int] | ProblemError | dict[str, Any]:
    """What a line says: a step, something that went wrong, or the last line itself."""
    with wire.UnexpectedAnswerGuard():
        event = wire.load_json(line)
        if event["event"] == "progress":
            return event["tensor"], event["done"], event["total"]
        if event["event"] == "problem":
            return ProblemError(event["problem"])
        # There is to be one.
        dict(event["report"])
        return event


def decode_arrays(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A report in JSON, with its tensors as arrays."""
    with wire.UnexpectedAnswerGuard():
        parts = {
            part: {
                name: {route: _decode_array(each) for route, each in routes.items()}
                for name, routes in raw[part].items()
            }
            for part in ("gradients", "intermediates")
        }
    return dict(raw) | parts


def _decode_array(value: Any) -> Any:
    """A tensor of an answer: nested numbers, of which some are spelled, or an object with base64."""
    if isinstance(value, Mapping):
        declared = cast("Mapping[str, Any]", value)
        datatype = BY_NAME[declared["datatype"]]
        stored = np.frombuffer(b64decode(declared["b64"]), datatype.storage_dtype)
        return datatype.from_storage(stored.reshape(declared["shape"]))
    # Spelled numbers are strings, of which NumPy makes numbers as well.
    array = np.asarray(value).astype(np.float64)
    array.flags.writeable = False
    return array
