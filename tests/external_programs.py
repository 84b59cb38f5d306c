"""Programs that some tests need and that `make test` cannot install by itself.

Tests whose program is missing are left out, in one line that says why. With REQUIRE_TOOLS=1 in the environment, as in
`.ci/run`, a missing program is an error.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class ExternalProgram:
    """A program, under any of its names.

    Attributes
    ----------
    name
        As in "no browser was found".
    programs
        Names under which it may be found, the preferred one first.
    package
        Debian's package of it.
    tests
        The tests that need it, as pytest would be told of them.
    directories
        Further directories where it may be, as patterns from the root; none by default.
    """

    name: str
    programs: tuple[str, ...]
    package: str
    tests: str

    directories: tuple[str, ...] = ()

    @property
    def path(self) -> str | None:
        """Path of the program; None where it is missing."""
        further = sorted((str(path) for pattern in self.directories for path in Path("/").glob(pattern)), reverse=True)
        search_path = os.pathsep.join([os.environ.get("PATH", os.defpath), *further])
        return next(filter(None, (shutil.which(program, path=search_path) for program in self.programs)), None)

    @property
    def absence_message(self) -> str:
        """Say what is left out, why, and how to change that."""
        return f"{self.tests}: left out, since no {self.name} was found (apt-get install {self.package})"

    @property
    def required_mark(self) -> pytest.MarkDecorator:
        """Mark a test that needs the program."""
        return pytest.mark.skipif(self.path is None, reason=self.absence_message)


BROWSER = ExternalProgram("browser", ("chromium", "chromium-browser", "google-chrome"), "chromium", "tests/browser")
COMPILER = ExternalProgram("C compiler", ("cc", "gcc"), "gcc", "tests of the examples in C")
POSTGRESQL = ExternalProgram(
    "PostgreSQL", ("postgres",), "postgresql", "tests of jobs in PostgreSQL", ("usr/lib/postgresql/*/bin",)
)
EXTERNAL_PROGRAMS = (BROWSER, COMPILER, POSTGRESQL)


def list_missing(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Say which programs are missing.

    Raises
    ------
    pytest.UsageError
        If one is, and the environment requires them all.
    """
    absences = [tool.absence_message for tool in EXTERNAL_PROGRAMS if tool.path is None]
    if absences and environment.get("REQUIRE_TOOLS"):
        raise pytest.UsageError("REQUIRE_TOOLS is set; " + "; ".join(absences))
    return absences
