"""`GET /health/live`, `GET /health/ready`, and the same under /v2 as KServe has them."""

import logging
import threading

from flask import Blueprint, Response

from schemas.problem import problem
from schemas.report import Health
from service.check import check
from service.checking import language
from service.http.answers import json_answer
from service.http.observed import observed
from service.http.operation import Operation, documented
from service.http.problems import answer
from service.http.stopping import StoppingError, stopping

blueprint = Blueprint("health", __name__)
_log = logging.getLogger("gradcheckd")


_ready = threading.Event()


def self_check() -> bool:
    """Whether the reference example passes here, or once did. It also loads what a first request would wait for."""
    if not _ready.is_set():
        try:
            outcome = check(language.models()["models"][0]["request"])["outcome"]
        except Exception as error:  # noqa: BLE001  # whatever is broken, the service is not ready
            _log.error("the self-check failed", exc_info=error)
            return False
        if outcome != "pass":
            _log.error("the self-check came out as %s", outcome)
            return False
        _ready.set()
    return True


@blueprint.get("/health/live")
@blueprint.get("/v2/health/live", endpoint="live_v2")
@documented(Operation("Tell whether the process answers", answer=Health, open=True))
def live() -> Response:
    """Answer as long as the process does."""
    return json_answer({"status": "live"})


@blueprint.get("/health/ready")
@blueprint.get("/v2/health/ready", endpoint="ready_v2")
@documented(
    Operation(
        "Tell whether checks can be answered",
        answer=Health,
        problems=((503, "The self-check does not pass, or the service is stopping."),),
        open=True,
    )
)
def ready() -> Response:
    """Answer 200 once the reference example passes, until the service is told to stop."""
    if stopping():
        raise StoppingError("The service is stopping.", retry_after=1)
    if self_check():
        return json_answer({"status": "ready"})
    observed().reason = "not-ready"
    return answer(problem(503, "Service Unavailable", "The self-check on the reference example does not pass."))
