"""`GET /metrics`: all metrics, each declared once, summed over the workers."""

import os

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

from service.http.operations import Operation, describe_operation

blueprint = Blueprint("metrics", __name__)

REGISTRY = CollectorRegistry()
_SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REQUESTS = Counter("gradcheckd_requests", "Requests answered.", ("method", "route", "status"), registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "gradcheckd_request_seconds", "Time of a request.", ("route",), buckets=_SECONDS_BUCKETS, registry=REGISTRY
)
CHECKS = Counter(
    "gradcheckd_checks", "Checks by outcome of the report, or `cancelled`.", ("outcome",), registry=REGISTRY
)
STAGE_SECONDS = Histogram(
    "gradcheckd_stage_seconds",
    "Time of each stage of a check; `wait` is the time in the queue.",
    ("stage",),
    buckets=_SECONDS_BUCKETS,
    registry=REGISTRY,
)
EVALUATIONS = Counter("gradcheckd_loss_evaluations", "Evaluations of a loss.", registry=REGISTRY)
REFUSALS = Counter("gradcheckd_refusals", "Requests refused, by the reason.", ("reason",), registry=REGISTRY)
PERMIT_LIMIT = Gauge(
    "gradcheckd_places",
    "Places for `checks`, for `small checks` in their lane, and for reading `bodies`.",
    ("of",),
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
PERMITS_IN_USE = Gauge(
    "gradcheckd_busy_places", "Places that are taken.", ("of",), multiprocess_mode="livesum", registry=REGISTRY
)
BUFFERED_BODY_BYTES = Gauge(
    "gradcheckd_held_bytes",
    "Bytes of bodies that are not parsed yet.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
BUFFERED_ANSWER_BYTES = Gauge(
    "gradcheckd_held_answer_bytes",
    "Bytes of large answers that are being made or sent.",
    multiprocess_mode="livesum",
    registry=REGISTRY,
)
UNFINISHED_ANSWERS = Counter(
    "gradcheckd_unfinished_answers",
    "Answers not sent whole: the client disconnected, or took too long.",
    registry=REGISTRY,
)
QUEUED_REQUESTS = Gauge(
    "gradcheckd_waiting", "Requests that wait for a place.", ("of",), multiprocess_mode="livesum", registry=REGISTRY
)
JOBS = Gauge("gradcheckd_jobs", "Jobs by state.", ("status",), multiprocess_mode="livemostrecent", registry=REGISTRY)
OLDEST_JOB_SECONDS = Gauge(
    "gradcheckd_oldest_job_seconds",
    "Age of the oldest job that waits.",
    multiprocess_mode="livemostrecent",
    registry=REGISTRY,
)


class UnseenGauge:
    """A gauge that nobody reads, in place of one of Prometheus."""

    def inc(self, amount: float = 1) -> None:
        """Count nothing."""

    dec = inc


DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the directory of the workers' counts; without it each process counts alone."""


@blueprint.get("/metrics")
@describe_operation(
    Operation("Tell what was counted, as Prometheus reads it", answer_type=str, media_type="text/plain")
)
def get_metrics() -> Response:
    """Answer with the sums over all workers, including exited ones."""
    return Response(write_exposition(), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def write_exposition() -> str:
    """Write all metrics in Prometheus's text format."""
    while True:
        try:
            return generate_latest(_collect_registry()).decode()
        except FileNotFoundError:
            continue  # the file of a worker that exited meanwhile; its counts are merged by now


def _collect_registry() -> CollectorRegistry:
    if DIRECTORY_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry
