import dataclasses

from service.app import create_app
from service.checking.question import Limits
from service.http.limits import limits
from service.settings import Settings


def test_every_limit_is_a_setting():
    with create_app(Settings()).app_context():
        assert limits() == Limits()
    set_otherwise = Settings(max_names=1, max_nodes=2, max_elements=3, max_work=4, max_bytes=5, max_seconds=6.0)
    with create_app(set_otherwise).app_context():
        assert dataclasses.astuple(limits()) == (1, 2, 3, 4, 5, 6.0)
