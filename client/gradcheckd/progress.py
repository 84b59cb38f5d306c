"""The progress of a check, from lines of JSON."""

import json
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import numpy as np

from gradcheckd.arrays import BY_NUMPY_NAME
from gradcheckd.errors import ProblemError, UnexpectedAnswerError

Progress = Callable[[str, int, int], None]
"""Told of the name that is moved, evaluations done, and evaluations foreseen."""
_BY_NAME = {each.name: each for each in BY_NUMPY_NAME.values()}


def followed(lines: Iterable[str], progress: Progress) -> dict[str, Any]:
    """Tell of each step, and return the last line: the `report` as it came, and the `text` if that was asked for.

    Raises
    ------
    ProblemError
        Something went wrong on the way.
    UnexpectedAnswerError
        The lines ended without a report.
    """
    for line in lines:
        event = json.loads(line)
        if event["event"] == "progress":
            progress(event["tensor"], event["done"], event["total"])
        elif event["event"] == "problem":
            raise ProblemError(event["problem"])
        else:
            return event
    raise UnexpectedAnswerError("The answer broke off before the report. See the log of the service.")


def with_arrays(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A report in JSON, with its tensors as arrays."""
    parts = {
        part: {name: {route: _array(each) for route, each in routes.items()} for name, routes in raw[part].items()}
        for part in ("gradients", "intermediates")
    }
    return dict(raw) | parts


def _array(value: Any) -> Any:
    """A tensor of an answer: nested numbers, of which some are spelled, or an object with base64."""
    if isinstance(value, Mapping):
        declared = cast("Mapping[str, Any]", value)
        datatype = _BY_NAME[declared["datatype"]]
        stored = np.frombuffer(b64decode(declared["b64"]), datatype.stored)
        return datatype.restored(stored.reshape(declared["shape"]))
    # Spelled numbers are strings, of which NumPy makes numbers as well.
    array = np.asarray(value).astype(np.float64)
    array.flags.writeable = False
    return array
