import pytest
from pydantic import ValidationError

from service.check import Limits
from service.settings import PREFIX, Settings


def test_the_defaults_are_those_of_the_limits():
    """A check from Python and one over HTTP are limited alike."""
    settings, limits = Settings(), Limits()
    for name in ("names", "nodes", "elements", "work", "seconds"):
        assert getattr(settings, f"max_{name}") == getattr(limits, name)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_comes_from_the_environment_and_is_checked(monkeypatch, name):
    monkeypatch.setenv(PREFIX + name.upper(), "7")
    assert getattr(Settings(), name) == 7
    for wrong in ("-1", "many", *([] if name == "max_waiting" else ["0"])):
        monkeypatch.setenv(PREFIX + name.upper(), wrong)
        with pytest.raises(ValidationError, match=name):
            Settings()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_is(name):
    assert (Settings.model_fields[name].description or "").endswith(".")
