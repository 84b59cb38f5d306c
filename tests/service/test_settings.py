import re

import pytest
from annotated_types import Ge
from pydantic import SecretStr, ValidationError

from service.settings import PREFIX, RENAMED_SETTINGS, Settings

TEXTS = {name for name, field in Settings.model_fields.items() if field.annotation in (str, SecretStr)}
NONE_AT_ALL = {name for name, field in Settings.model_fields.items() if Ge(0) in field.metadata}
NUMBERS = [name for name in Settings.model_fields if name not in TEXTS]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_comes_from_the_environment_and_is_checked(monkeypatch, name):
    value = 2**30 if name == "max_buffered_body_bytes" else 7  # which must be as large as a body may be
    monkeypatch.setenv(PREFIX + name.upper(), str(value))
    assert getattr(Settings(), name) == value
    if name in NONE_AT_ALL:
        monkeypatch.setenv(PREFIX + name.upper(), "0")
        assert getattr(Settings(), name) == 0
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
def test_buffer_limit_below_the_largest_body_is_refused(name):
    with pytest.raises(ValidationError, match=r"MAX_BUFFERED_BODY_BYTES is 134217728, .* set it to 134217729"):
        Settings(**{name: 2**27 + 1})


@pytest.mark.parametrize(
    ("name", "setting"), [("MAX_BYTE", "MAX_BYTES"), ("MAXSECONDS", "MAX_SECONDS"), ("KEY_FILE", "KEYS_FILE")]
)
def test_a_misspelt_variable_is_refused_with_what_was_meant(monkeypatch, name, setting):
    monkeypatch.setenv(PREFIX + name, "7")
    with pytest.raises(
        ValidationError, match=re.escape(f"{PREFIX}{name} is not a setting: did you mean {PREFIX}{setting}?")
    ):
        Settings()


@pytest.mark.parametrize(("old", "new"), RENAMED_SETTINGS.items())
@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_a_renamed_setting_is_refused_with_its_present_name(monkeypatch, old, new, spell):
    monkeypatch.setenv(spell(PREFIX + old), "7")
    with pytest.raises(ValidationError, match=rf"(?i){PREFIX}{old} was renamed: set {PREFIX}{new}"):
        Settings()


def test_renamed_settings_are_reported_together_before_other_errors(monkeypatch):
    monkeypatch.setenv(f"{PREFIX}MAX_BODY_BYTES", str(2**28))  # for which the default of the buffer is too small
    for old in RENAMED_SETTINGS:
        monkeypatch.setenv(PREFIX + old.upper(), str(2**28))
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert all(f"set {PREFIX}{new.upper()}" in str(refusal.value) for new in RENAMED_SETTINGS.values())


@pytest.mark.parametrize("name", ["MAX_HELD_BYTES", "OTHERS_MAX_HELD_BYTES"])
def test_old_names_with_another_prefix_are_not_ours(monkeypatch, name):
    monkeypatch.setenv(name, "7")
    Settings()


def test_present_names_are_settings_and_old_names_are_not():
    assert set(RENAMED_SETTINGS.values()) <= Settings.model_fields.keys()
    assert RENAMED_SETTINGS.keys().isdisjoint(Settings.model_fields)
