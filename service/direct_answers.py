"""Answers to checks of a function from the same process, without HTTP between.

The route parses a request, runs its kind and writes the answer. Here the same functions do that, so that the answer is
the same to the byte. Connections, headers, quotas and the choice among forms are left out: they take a tenth of the
time of a small check. A request that is refused, that is not plain, or whose answer is large goes to the route.
"""

from collections.abc import Mapping
from typing import Any

from werkzeug.exceptions import HTTPException

from schemas.problem_details import InvalidRequestError
from schemas.safetensors_body import SAFETENSORS
from service.checks.common.check_kind import CheckKind, RunOptions
from service.checks.common.deadline import Clock
from service.checks.kinds import CHECK_KINDS
from service.http.answers import write_answer
from service.http.body.request_body import JSON, choose_body_form
from service.http.middleware.memory_quota import SMALL_ANSWER_BYTES
from service.http.middleware.request_limits import read_limits
from service.settings import Settings

MAX_BODY_BYTES = 2**20
"""Larger bodies go to the route, beside whose work HTTP takes no time."""
_KINDS: Mapping[str, CheckKind[Any]] = {kind.path: kind for kind in CHECK_KINDS if not kind.needs_torch}


class _LargeAnswerError(Exception):
    """An answer that the route counts among those of all requests."""


class DirectAnswers:
    """Answers requests that differ in nothing but their bodies from each other.

    Parameters
    ----------
    settings
        Settings of the application.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._limits = settings, read_limits(settings)

    def answer(self, path: str, content: bytes, media_type: str, accept: str) -> bytes | None:
        """Return the answer to a request; None if the route has to answer.

        Parameters
        ----------
        path
            Path of the request.
        content, media_type
            Body and its content type.
        accept
            Media type of the answer.
        """
        kind = _KINDS.get(path)
        is_plain = kind is not None and media_type in (JSON, SAFETENSORS) and accept in (JSON, SAFETENSORS)
        if kind is None or not is_plain or len(content) > MAX_BODY_BYTES:
            return None
        form = choose_body_form(self._settings, media_type, kind.binary_body.tensor_fields)
        if len(content) > form.max_bytes:
            return None
        options = RunOptions(
            self._limits, form="binary" if accept == SAFETENSORS else "json", reserve_answer_bytes=_refuse_large_answer
        )
        try:
            with Clock(self._settings.max_seconds).enforce_deadline():
                return write_answer(kind, kind.run(form.parse(content, form.max_parsed_bytes), options), accept)
        except (HTTPException, InvalidRequestError, _LargeAnswerError):
            # The route words the refusal.
            return None


def _refuse_large_answer(count: int) -> None:
    if count > SMALL_ANSWER_BYTES:
        raise _LargeAnswerError
