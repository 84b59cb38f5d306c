"""How gunicorn serves the application: `gunicorn --config python:service.gunicorn.config 'service.app:create_app()'`.

HOST and PORT say where, WEB_CONCURRENCY how many workers.
"""

import atexit
import gc
import os
import socket
import struct
from pathlib import Path
from typing import Any

# Before NumPy and torch are loaded: threads of their own only make small work slower, and workers are many.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from service.gunicorn import file_descriptors, heartbeat, memory_allocator, metrics_files  # noqa: E402  # what it imports reads them
from service.settings import PREFIX, Settings  # noqa: E402
from service.unknown_settings import find_unknown_settings  # noqa: E402

_settings = Settings()
# Workers inherit it.
memory_allocator.configure_malloc()

# Before the client of Prometheus is loaded, which happens with the class of the workers.
_DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_metrics_directory = metrics_files.make_metrics_directory()
if _metrics_directory is None:
    os.environ.pop(_DIRECTORY_VARIABLE, None)
else:
    os.environ[_DIRECTORY_VARIABLE] = str(_metrics_directory)
    from service.gunicorn import metrics_allocation  # which loads it

    metrics_allocation.install_allocated_dict()
    atexit.register(metrics_files.remove_metrics_directory, _metrics_directory, os.getpid())

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "service.gunicorn.worker.Worker"
logger_class = "service.gunicorn.logger.JsonLogger"
# More than can compute, wait, read and be slow at once, so that health and metrics are answered meanwhile.
threads = (
    _settings.max_checks
    + _settings.max_small_checks
    + 2 * _settings.max_queued
    + _settings.max_concurrent_reads
    + _settings.max_sending
    + 16
)
# More connections than descriptors would end a worker.
worker_connections = file_descriptors.compute_max_connections(file_descriptors.raise_descriptor_limit(), threads)
# A heartbeat file on disk can stall a worker, and a full file system can keep it from starting.
heartbeat.install_heartbeat()
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Longer than the longest check, which SIGTERM lets finish.
graceful_timeout = int(_settings.max_seconds) + 30
timeout = 120
# Its socket wants a writable home.
control_socket_disable = True
# Nobody in front sets them, so that whoever sends one means to lead astray.
forwarder_headers = ""
# torch in the master can hang its children.
preload_app = False

_SEND_BUFFER_BYTES = 2**18
_COLLECTION_THRESHOLD = 100_000
"""New objects after which to look for garbage that refers to itself."""


def on_starting(server: Any) -> None:
    """See to it that the workers know when all of them are to stop, not one alone."""
    from service.http.middleware.shutdown import request_shutdown

    stop_workers = server.stop

    def stop_service(graceful: bool = True) -> None:
        request_shutdown()
        stop_workers(graceful)

    server.stop = stop_service
    for name in find_unknown_settings(os.environ, PREFIX, Settings.model_fields):
        server.log.warning("the variable %s is no setting, and is not looked at", name)
    if _metrics_directory is None:
        server.log.warning("nowhere to write metrics: each worker will tell its own alone")


def when_ready(server: Any) -> None:
    """Limit how long a thread waits for the next byte of a request, or for a client to take one of its answer."""
    # What the listening sockets have, those that they accept inherit. The kernel would else hold megabytes of an answer
    # for each client that does not take it, beside what is held here.
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    limits = {socket.SO_RCVTIMEO: _settings.max_stall_seconds, socket.SO_SNDTIMEO: _settings.send_timeout_seconds}
    for listener in server.LISTENERS:
        for option, seconds in limits.items():
            whole = int(seconds)
            listener.sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int(1e6 * (seconds - whole))))


def post_worker_init(worker: Any) -> None:
    """Load torch and run the self-check before the first request, not in it."""
    from service.http.routes.health import run_self_check

    run_self_check()
    # What is loaded now stays: no later collection need look through it.
    gc.collect()
    gc.freeze()
    # A body of many lists is no garbage: to look through them again and again while it is parsed took ten times as long
    # as to parse it, and nobody else is answered meanwhile.
    gc.set_threshold(_COLLECTION_THRESHOLD)


_free_pages = memory_allocator.FreeHeapPages()


def post_request(worker: Any, request: Any, environ: Any, answer: Any) -> None:
    """Give back what the request took, before the next one takes more."""
    _free_pages.give_back()


def child_exit(server: Any, worker: Any) -> None:
    """Keep what a dead worker counted."""
    if _metrics_directory is not None:
        metrics_files.merge_dead_worker(_metrics_directory, worker.pid)
