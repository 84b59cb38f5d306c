import dataclasses

from service.app import create_app
from service.checks.common.limits import Limits
from service.http.middleware.request_limits import get_current_limits
from service.settings import Settings


def test_every_limit_is_a_setting():
    with create_app(Settings()).app_context():
        assert get_current_limits() == Limits()
    numbers = range(1, 1 + len(dataclasses.fields(Limits)))
    names = [f"max_{field.name}" for field in dataclasses.fields(Limits)]
    set_otherwise = Settings(**dict(zip(names, numbers, strict=True)))
    with create_app(set_otherwise).app_context():
        assert dataclasses.astuple(get_current_limits()) == tuple(numbers)
