import dataclasses

import pytest

from service.checks.common.limits import Limits
from service.settings import Settings


def test_limits_are_positive_and_cannot_be_changed_in_place():
    limits = Limits()
    assert min(dataclasses.astuple(limits)) > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        limits.names = 1  # type: ignore[misc]


def test_the_settings_take_their_defaults_from_here():
    for field in dataclasses.fields(Limits):
        assert Settings.model_fields[f"max_{field.name}"].default == field.default
