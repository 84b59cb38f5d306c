"""The limits of a request, from the settings."""

from dataclasses import fields, replace

from flask import current_app

from service.checks.common.limits import Limits
from service.helper_processes.usable_cores import count_usable_cores
from service.settings import Settings

_LIMITS = "gradcheckd.limits"


def get_current_limits() -> Limits:
    """Return the limits of the application: each is the setting MAX_ and its name."""
    limits: Limits | None = current_app.extensions.get(_LIMITS)
    return limits or current_app.extensions.setdefault(_LIMITS, read_limits(current_app.extensions["gradcheckd"]))


def read_limits(settings: Settings) -> Limits:
    """Read the limits of the requests of an application from its settings."""
    return Limits(**{limit.name: getattr(settings, f"max_{limit.name}") for limit in fields(Limits)})


def read_job_limits(settings: Settings) -> Limits:
    """Read the limits of a job from the settings: more work, time and processes than those of a request."""
    return replace(
        read_limits(settings),
        work=settings.job_max_work,
        seconds=settings.job_max_seconds,
        processes=settings.job_processes or count_usable_cores(),
    )
