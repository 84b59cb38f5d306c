"""The limits of a request, from the settings."""

from dataclasses import fields

from flask import current_app

from service.checks.common.limits import Limits
from service.settings import Settings

_LIMITS = "gradcheckd.limits"


def get_current_limits() -> Limits:
    """Return the limits of the application: each is the setting MAX_ and its name."""
    limits: Limits | None = current_app.extensions.get(_LIMITS)
    return limits or current_app.extensions.setdefault(_LIMITS, read_limits(current_app.extensions["gradcheckd"]))


def read_limits(settings: Settings) -> Limits:
    """Read the limits of the requests of an application from its settings."""
    return Limits(**{limit.name: getattr(settings, f"max_{limit.name}") for limit in fields(Limits)})
