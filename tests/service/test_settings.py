import dataclasses
import re

import pytest
from pydantic import ValidationError

from service.checks.graph.check import Limits
from service.settings import PREFIX, Settings


def test_the_defaults_are_those_of_the_limits():
    """A check from Python and one over HTTP are limited alike."""
    settings, limits = Settings(), Limits()
    for field in dataclasses.fields(Limits):
        assert getattr(settings, f"max_{field.name}") == getattr(limits, field.name)


TEXTS = {"keys", "keys_file", "allowed_origins"}  # what may be in them their modules know, and their tests
NONE_AT_ALL = {"max_small_checks", "max_waiting"}  # of which there may be none
NUMBERS = [name for name in Settings.model_fields if name not in TEXTS]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_comes_from_the_environment_and_is_checked(monkeypatch, name):
    value = 2**30 if name == "max_held_bytes" else 7  # which must be as large as a body may be
    monkeypatch.setenv(PREFIX + name.upper(), str(value))
    assert getattr(Settings(), name) == value
    for wrong in ("-1", "many", *([] if name in NONE_AT_ALL else ["0"])):
        monkeypatch.setenv(PREFIX + name.upper(), wrong)
        with pytest.raises(ValidationError, match=name):
            Settings()


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_text_comes_from_the_environment(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name.upper(), "a")
    assert str(getattr(Settings(), name)) == ("**********" if name == "keys" else "a")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name):
    assert (Settings.model_fields[name].description or "").endswith(".")


@pytest.mark.parametrize("name", ["max_body_bytes", "max_binary_bytes"])
def test_there_is_room_for_the_largest_body(name):
    with pytest.raises(ValidationError, match="MAX_HELD_BYTES is 134217728: it must be 134217729 at least"):
        Settings(**{name: 2**27 + 1})


@pytest.mark.parametrize(
    ("name", "setting"), [("MAX_BYTE", "MAX_BYTES"), ("MAXSECONDS", "MAX_SECONDS"), ("KEY_FILE", "KEYS_FILE")]
)
def test_a_misspelt_variable_is_refused_with_what_was_meant(monkeypatch, name, setting):
    monkeypatch.setenv(PREFIX + name, "7")
    with pytest.raises(
        ValidationError, match=re.escape(f"no setting {PREFIX}{name}, which the environment has; {PREFIX}{setting}")
    ):
        Settings()
