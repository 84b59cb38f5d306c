"""`GET /health/live` and `GET /health/ready`, and their aliases under /v2, as in KServe."""

import logging
import threading

from flask import Blueprint, Response

from schemas.problem_details import make_problem
from schemas.report import Health
from service.http.middleware.job_access import find_obstacle
from service.http.middleware.request_log import get_current_record
from service.http.middleware.shutdown import ShutdownError, is_shutting_down
from service.http.operations import Operation, describe_operation
from service.http.response.problem_details import make_problem_response
from service.http.response.responses import make_json_response

blueprint = Blueprint("health", __name__)
_log = logging.getLogger("gradcheckd")


_self_check_passed = threading.Event()


def run_self_check() -> bool:
    """Tell whether the reference example passes here, or once did.

    The check also loads PyTorch, for which a first check would wait.
    """
    # A process that never checks a model has no use for these modules.
    from service.checks.graph import model_language
    from service.checks.graph.check import check

    if not _self_check_passed.is_set():
        try:
            outcome = check(model_language.list_models()["models"][0]["request"])["outcome"]
        except Exception as error:  # noqa: BLE001  # after any error the service is not ready
            _log.error("the self-check failed", exc_info=error)
            return False
        if outcome != "pass":
            _log.error("the self-check came out as %s", outcome)
            return False
        _self_check_passed.set()
    return True


@blueprint.get("/health/live")
@blueprint.get("/v2/health/live", endpoint="live_v2")
@describe_operation(Operation("Tell whether the process answers", answer_type=Health, is_open=True))
def live() -> Response:
    """Answer as long as the process does."""
    return make_json_response({"status": "live"})


@blueprint.get("/health/ready")
@blueprint.get("/v2/health/ready", endpoint="ready_v2")
@describe_operation(
    Operation(
        "Tell whether checks can be answered",
        answer_type=Health,
        problems=((503, "The self-check does not pass, or the service is stopping."),),
        is_open=True,
    )
)
def ready() -> Response:
    """Answer 200 once the reference example passes, until the service is told to stop."""
    if is_shutting_down():
        raise ShutdownError("The service is stopping.", retry_after=1)
    if run_self_check():
        obstacle = find_obstacle()
        return make_json_response({"status": "ready"} | ({"jobs": f"Jobs wait: {obstacle}."} if obstacle else {}))
    get_current_record().refusal_reason = "not-ready"
    return make_problem_response(
        make_problem(503, "Service Unavailable", "The self-check on the reference example does not pass.")
    )
