"""The configuration of gunicorn.

The command is `gunicorn --config python:service.gunicorn.config 'service.app:create_app()'`. HOST and PORT set the
address, WEB_CONCURRENCY the number of workers.
"""

import atexit
import gc
import os
import socket
import struct
from pathlib import Path
from typing import Any

# Before NumPy and torch are loaded: their own threads only slow small work down, and workers are many.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from service.gunicorn import (  # noqa: E402  # NumPy reads them at its import
    file_descriptors,
    heartbeat,
    memory_allocator,
    metrics_files,
    private_directory,
)
from service.helper_processes import usable_cores  # noqa: E402
from service.jobs import owner  # noqa: E402
from service.settings import PREFIX, Settings  # noqa: E402
from service.unknown_settings import find_unknown_settings  # noqa: E402

workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
# Workers inherit the variables. A large check takes the cores that no other worker needs.
os.environ.setdefault(
    f"{PREFIX}MAX_PROCESSES", str(usable_cores.choose_process_count(usable_cores.count_usable_cores(), workers))
)
_settings = Settings()
# Workers inherit the setting.
memory_allocator.configure_malloc()

# Before the import of Prometheus's client, which comes with the class of the workers.
_DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_metrics_directory = private_directory.make_private_directory()
if _metrics_directory is None:
    os.environ.pop(_DIRECTORY_VARIABLE, None)
else:
    os.environ[_DIRECTORY_VARIABLE] = str(_metrics_directory)
    from service.gunicorn import metrics_allocation  # imports Prometheus's client

    metrics_allocation.install_allocated_dict()
    atexit.register(private_directory.remove_private_directory, _metrics_directory, os.getpid())

# Jobs without a database end with the master, and its workers share them.
_jobs_directory = None if _settings.jobs_url else private_directory.make_private_directory()
owner.set_owner(os.getpid(), str(_jobs_directory or ""))
if _jobs_directory is not None:
    atexit.register(private_directory.remove_private_directory, _jobs_directory, os.getpid())

bind = f"{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"
worker_class = "service.gunicorn.worker.Worker"
logger_class = "service.gunicorn.logger.JsonLogger"
# More threads than requests that can compute, wait, read or be slow, so that health and metrics are answered meanwhile.
threads = (
    _settings.max_checks
    + _settings.max_small_checks
    + 2 * _settings.max_queued
    + _settings.max_concurrent_reads
    + _settings.max_sending
    + 16
)
# A worker would end if it had more connections than descriptors.
worker_connections = file_descriptors.compute_max_connections(file_descriptors.raise_descriptor_limit(), threads)
# A heartbeat file on disk can stall a worker, and a full file system can keep it from starting.
heartbeat.install_heartbeat()
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Longer than the longest check, which SIGTERM lets finish.
graceful_timeout = int(_settings.max_seconds) + 30
timeout = 120
# The control socket needs a writable home.
control_socket_disable = True
# No proxy in front sets these headers, so that a client that sends one means to deceive.
forwarder_headers = ""
# torch in the master can hang its children.
preload_app = False

_SEND_BUFFER_BYTES = 2**18
_COLLECTION_THRESHOLD = 100_000
"""New objects after which the collector looks for reference cycles."""


def on_starting(server: Any) -> None:
    """Tell the workers when all of them are to stop, and warn of unknown settings."""
    from service.http.middleware.shutdown import request_shutdown

    stop_workers = server.stop

    def stop_service(graceful: bool = True) -> None:
        request_shutdown()
        stop_workers(graceful)

    server.stop = stop_service
    for name in find_unknown_settings(os.environ, PREFIX, Settings.model_fields):
        server.log.warning("the variable %s is no setting, and has no effect", name)
    if _metrics_directory is None:
        server.log.warning("no directory for metrics can be written: each worker reports only its own")


def when_ready(server: Any) -> None:
    """Limit the waits of a thread for the next byte of a request or an answer."""
    # Accepted sockets inherit the options of the listening ones. With its default buffers the kernel would hold
    # megabytes of an answer for each slow reader, beside the service's own.
    for listener in server.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    limits = {socket.SO_RCVTIMEO: _settings.max_stall_seconds, socket.SO_SNDTIMEO: _settings.send_timeout_seconds}
    for listener in server.LISTENERS:
        for option, seconds in limits.items():
            whole_seconds = int(seconds)
            listener.sock.setsockopt(
                socket.SOL_SOCKET, option, struct.pack("ll", whole_seconds, int(1e6 * (seconds - whole_seconds)))
            )


def post_worker_init(worker: Any) -> None:
    """Load all kinds of check and torch, and run the self-check, before the first request, not in it."""
    from service.checks.kinds import load_kinds
    from service.http.routes.health import run_self_check

    load_kinds()
    run_self_check()
    # The objects loaded by now stay: no later collection need look through them.
    gc.collect()
    gc.freeze()
    # A body of many lists is no garbage. Repeated collections during its parsing took ten times as long as the parsing,
    # and the worker answers no other request meanwhile.
    gc.set_threshold(_COLLECTION_THRESHOLD)


_free_pages = memory_allocator.FreeHeapPages()


def post_request(worker: Any, request: Any, environ: Any, answer: Any) -> None:
    """Return the memory of the request to the system before the next one takes more."""
    _free_pages.give_back()


def child_exit(server: Any, worker: Any) -> None:
    """Keep the counts of an exited worker."""
    if _metrics_directory is not None:
        metrics_files.merge_dead_worker(_metrics_directory, worker.pid)
