"""A real server of PostgreSQL with a database of its own, which can be stopped, killed and started again."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from tests.external_programs import POSTGRESQL

_START_SECONDS = 60


class PostgresqlServer:
    """A server with an empty database.

    It refuses to run as root, so that then its own user runs it.

    Parameters
    ----------
    directory
        Directory for its files, which is empty.
    is_durable
        True to write each transaction to the disk, as by default in production; False by default.
    """

    def __init__(self, directory: Path, *, is_durable: bool = False) -> None:
        assert POSTGRESQL.path is not None
        self._directory, self._is_durable = directory, is_durable
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(directory, self._user)
            for parent in directory.parents:
                if parent.owner() == pwd.getpwuid(0).pw_name and parent != parent.parent:
                    parent.chmod(parent.stat().st_mode | 0o055)
        program = Path(POSTGRESQL.path).parent / "initdb"
        command = [program, "--pgdata", self._data, "--auth", "trust", "--username", "gradcheckd", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, user=self._user, cwd=directory)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    @property
    def url(self) -> str:
        """Address of the database, as SQLAlchemy takes it."""
        return f"postgresql+psycopg://gradcheckd@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        assert POSTGRESQL.path is not None
        settings = ["-c", f"fsync={'on' if self._is_durable else 'off'}"]
        command = [POSTGRESQL.path, "-D", self._data, "-p", str(self._port), "-h", "127.0.0.1", "-k", self._directory]
        self._process = subprocess.Popen(
            [*command, *settings], user=self._user, cwd=self._directory, stderr=subprocess.DEVNULL
        )
        self._await_connection()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: at once by default, with an end of all connections."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _await_connection(self) -> None:
        engine, deadline = sqlalchemy.create_engine(self.url), time.monotonic() + _START_SECONDS
        while True:
            try:
                engine.connect().close()
                break
            except sqlalchemy.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        engine.dispose()


@contextmanager
def run_postgresql(directory: Path, *, is_durable: bool = False) -> Iterator[PostgresqlServer]:
    """Run a server within the block; parameters are those of the class."""
    server = PostgresqlServer(directory, is_durable=is_durable)
    server.start()
    try:
        yield server
    finally:
        server.stop()
