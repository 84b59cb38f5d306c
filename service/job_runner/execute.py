"""The computation of one job."""

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import orjson
from werkzeug.exceptions import HTTPException

from schemas.problem_details import InvalidRequestError, ProblemDetails, make_problem
from schemas.stored_result import pack_result
from service.checks.common.check_kind import CheckKind, RunOptions
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, Clock
from service.checks.common.limits import Limits
from service.checks.graph.helpers import CLUSTER
from service.checks.kinds import CHECK_KINDS
from service.http.body.request_body import choose_body_form
from service.http.response.problem_details import describe_problem
from service.http.response.responses import asks_for_details
from service.jobs.job import ClaimedJob, JobResult
from service.numerics.core.difference import DifferenceProgress
from service.numerics.core.interrupts import install_interrupt_check
from service.settings import Settings

_KINDS: Mapping[str, CheckKind[Any]] = {kind.name: kind for kind in CHECK_KINDS if kind.encode_job_result is not None}


@dataclass(frozen=True)
class FinishedRun:
    """The end of a run: a result, or a problem document."""

    result: JobResult | None = None
    problem: ProblemDetails | None = None

    @property
    def problem_text(self) -> str:
        """Return the problem document as JSON text."""
        return orjson.dumps(self.problem).decode()


def run_job(
    settings: Settings,
    limits: Limits,
    make_executor: Callable[[], AbstractContextManager[Executor]] | None,
    claimed: ClaimedJob,
    report_progress: DifferenceProgress,
    raise_if_cancelled: Callable[[], None],
) -> FinishedRun:
    """Answer the request of a job.

    Parameters
    ----------
    settings
        Settings of the service, for the form of the request.
    limits
        Limits of a job.
    make_executor
        Function that makes the executor of a large job; None for the helpers of this process.
    claimed
        StoredJob.
    report_progress
        Receiver of the progress of the differences.
    raise_if_cancelled
        Function that is called often, and raises to stop the computation.

    Raises
    ------
    CancelledError
        `raise_if_cancelled` has raised it.
    """
    kind = _KINDS[claimed.kind]
    form = choose_body_form(settings, claimed.media_type, kind.binary_body.tensor_fields)
    options = RunOptions(limits, report_progress, form="binary", reserve_answer_bytes=_accept_size)
    clock = Clock(limits.seconds)
    CLUSTER.set(make_executor)
    try:
        with (
            install_interrupt_check(raise_if_cancelled),
            clock.enforce_deadline(),
            clock.refuse_on_timeout(SMALLER_MODEL_REMEDY, *kind.timeout_path),
            np.errstate(all="ignore"),
        ):
            document = form.parse(claimed.body, form.max_parsed_bytes)
            result = kind.run(document, options)
            fields = cast("dict[str, Any]", document)
            return FinishedRun(
                JobResult(pack_result(result), fields.get("encoding") or "nested", asks_for_details(fields))
            )
    except (HTTPException, InvalidRequestError) as error:
        return FinishedRun(problem=describe_problem(error))
    except MemoryError:
        detail = "The machine has no memory left for this job. Take a smaller model."
        return FinishedRun(problem=make_problem(503, "Service Unavailable", detail))


def _accept_size(count: int) -> None:
    """Accept the size of an answer, which the limits have bounded."""
