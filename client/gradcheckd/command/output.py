"""Where the command writes."""

import os
import sys
from pathlib import Path

from gradcheckd.errors import GradcheckdError


def write_text(text: str, path: str | None = None) -> None:
    """Write a text, with a line's end, to a file or else, also where that is `-`, to standard output.

    Raises
    ------
    OSError
        It cannot be written; with the name of where to.
    GradcheckdError
        Standard output is closed.
    """
    named = None if path == "-" else path
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        if named:
            Path(named).write_text(text, encoding="utf-8")
        else:
            _print_text(text)
    except OSError as error:
        if not named:
            _detach_stdout()
        # Python names a file that cannot be opened, but not one that is full.
        error.filename = error.filename or named or "standard output"
        raise


def _print_text(text: str) -> None:
    if sys.stdout is None:
        raise GradcheckdError("Standard output is closed. Leave it open, or name a file to write to: --output FILE.")
    # A terminal of few characters is no reason to show nothing.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _detach_stdout() -> None:
    """What could not be written is not to be tried again when Python ends, which has a status of its own for that."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
