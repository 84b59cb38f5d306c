"""The limits of a request, from the settings."""

from flask import current_app

from service.checks.graph.problem import Limits
from service.settings import Settings


def current_limits() -> Limits:
    """Return the limits of the current application."""
    settings: Settings = current_app.extensions["gradcheckd"]
    return Limits(
        names=settings.max_names,
        nodes=settings.max_nodes,
        dimensions=settings.max_dimensions,
        elements=settings.max_elements,
        work=settings.max_work,
        bytes=settings.max_bytes,
        seconds=settings.max_seconds,
        answer_bytes=settings.max_answer_bytes,
    )
