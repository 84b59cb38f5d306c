"""The limits of a request, from the settings."""

from dataclasses import fields

from flask import current_app

from service.checks.common.limits import Limits
from service.settings import Settings


def get_current_limits() -> Limits:
    """Return the limits of the application: each is the setting MAX_ and its name."""
    settings: Settings = current_app.extensions["gradcheckd"]
    return Limits(**{limit.name: getattr(settings, f"max_{limit.name}") for limit in fields(Limits)})
