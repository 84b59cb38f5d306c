import os
import subprocess
import sys

from service.settings import PREFIX, RENAMED_SETTINGS
from tests.integration.conftest import PATIENCE, ROOT

COMMAND = ("-m", "gunicorn", "--config", "python:service.gunicorn.config", "service.app:create_app()")


def test_a_service_with_settings_of_old_names_ends_at_its_start_and_gives_the_present_names():
    """A limit that an operator has set must not fall back to its default because of its name."""
    old = {PREFIX + name.upper(): str(2**28) for name in RENAMED_SETTINGS}
    ended = subprocess.run(
        [sys.executable, *COMMAND],
        cwd=ROOT,
        env=os.environ | {"PORT": "0", "WEB_CONCURRENCY": "1"} | old,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 1
    for name, present in RENAMED_SETTINGS.items():
        assert f"{PREFIX}{name.upper()} was renamed: set {PREFIX}{present.upper()}" in ended.stderr
    assert "Listening at" not in ended.stderr
