"""How gunicorn serves the application: `gunicorn --config python:service.gunicorn_config 'service.app:create_app()'`.

HOST and PORT say where, WEB_CONCURRENCY how many workers.
"""

import gc
import os
from pathlib import Path
from typing import Any

# Before NumPy and torch are loaded: threads of their own only make small work slower, and workers are many.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
# More than can compute at once, so that health is answered meanwhile.
threads = 8
# A heartbeat file on disk can stall a worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Longer than the longest check, which SIGTERM lets finish.
graceful_timeout = 90
timeout = 120
# Its socket wants a writable home.
control_socket_disable = True
# torch in the master can hang its children.
preload_app = False


def post_worker_init(worker: Any) -> None:
    """Load torch and run the self-check before the first request, not in it."""
    from service.http.health import self_check

    self_check()
    # What is loaded now stays: no later collection need look through it.
    gc.collect()
    gc.freeze()
