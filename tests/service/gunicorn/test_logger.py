import json
import os
import subprocess
import sys
from pathlib import Path

LOG = """
import logging, warnings
from gunicorn.config import Config
from service.gunicorn.logger import JsonLogger
logger = JsonLogger(Config())
logger.info("Booting worker with pid: %s", 7)
logger.setup(Config())
logging.getLogger("gradcheckd").warning("beside")
warnings.warn("old")
logging.getLogger("gradcheckd").debug("too much")
for error in (OSError("odd"), BlockingIOError()):
    try:
        raise error
    except OSError:
        logger.exception("Socket error processing request.")
assert not logger.access_log_enabled
"""


def test_every_log_record_is_one_line_of_json():
    """In a process of its own: the loggers are those of the whole process, and pytest has handlers of its own there."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-W", "default", "-c", LOG]
    written = subprocess.run(command, cwd=root, env=os.environ, check=True, capture_output=True, text=True).stderr
    first, second, third, odd, slow = (json.loads(line) for line in written.splitlines())
    assert (first["event"], first["logger"]) == ("Booting worker with pid: 7", "gunicorn.error")
    assert (second["event"], second["level"]) == ("beside", "warning")
    assert "UserWarning: old" in third["event"]
    assert (odd["level"], odd["event"]) == ("error", "Socket error processing request.")
    assert "OSError: odd" in odd["exception"]
    assert (slow["level"], "exception" in slow) == ("info", False)
    assert "took nothing of its answer" in slow["event"]
