import pytest
from pydantic import ValidationError

from service.check import Limits
from service.settings import PREFIX, Settings


def test_the_defaults_are_those_of_the_limits():
    """A check from Python and one over HTTP are limited alike."""
    settings, limits = Settings(), Limits()
    for name in ("names", "nodes", "elements", "work", "seconds"):
        assert getattr(settings, f"max_{name}") == getattr(limits, name)


TEXTS = {"keys", "keys_file", "allowed_origins"}  # what may be in them their modules know, and their tests
NUMBERS = [name for name in Settings.model_fields if name not in TEXTS]


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_comes_from_the_environment_and_is_checked(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name.upper(), "7")
    assert getattr(Settings(), name) == 7
    for wrong in ("-1", "many", *([] if name == "max_waiting" else ["0"])):
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
