"""How gunicorn serves the application: `gunicorn --config python:service.gunicorn_config 'service.app:create_app()'`.

HOST and PORT say where, WEB_CONCURRENCY how many workers.
"""

import atexit
import gc
import os
from pathlib import Path
from typing import Any

# Before NumPy and torch are loaded: threads of their own only make small work slower, and workers are many.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from service.serving import tally  # noqa: E402  # what it imports reads them
from service.settings import Settings  # noqa: E402

_settings = Settings()

# Before the client of Prometheus is loaded, which happens with the class of the workers.
_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
_place = tally.directory()
if _place is None:
    os.environ.pop(_DIRECTORY, None)
else:
    os.environ[_DIRECTORY] = str(_place)
    atexit.register(tally.remove, _place, os.getpid())

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
logger_class = "service.serving.logger.JsonLogger"
# More than can compute and wait at once, so that health and metrics are answered meanwhile.
threads = _settings.max_checks + _settings.max_waiting + 16
# A heartbeat file on disk can stall a worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Longer than the longest check, which SIGTERM lets finish.
graceful_timeout = int(_settings.max_seconds) + 30
timeout = 120
# Its socket wants a writable home.
control_socket_disable = True
# torch in the master can hang its children.
preload_app = False


def on_starting(server: Any) -> None:
    """Say where metrics will be less than they could be."""
    if _place is None:
        server.log.warning("nowhere to write metrics: each worker will tell its own alone")


def post_worker_init(worker: Any) -> None:
    """Load torch and run the self-check before the first request, not in it."""
    from service.http.health import self_check

    self_check()
    # What is loaded now stays: no later collection need look through it.
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """Keep what a dead worker counted."""
    if _place is not None:
        tally.bury(_place, worker.pid)
