"""Output of the command: to a file, or to standard output."""

import os
import shutil
import sys
from pathlib import Path

from gradcheckd.errors import GradcheckdError

_MIN_COLUMNS, _MAX_COLUMNS = 40, 120


def get_terminal_columns(path: str | None) -> int | None:
    """Return the width of the terminal that a report goes to; None where it goes elsewhere."""
    if path not in (None, "-") or sys.stdout is None or not sys.stdout.isatty():
        return None
    return max(_MIN_COLUMNS, min(shutil.get_terminal_size().columns, _MAX_COLUMNS))


def write_text(text: str, path: str | None = None) -> None:
    """Write a text, with a line's end, to a file, or to standard output for `-` and None.

    Raises
    ------
    OSError
        The text cannot be written; the error names the file.
    GradcheckdError
        Standard output is closed.
    """
    file_path = None if path == "-" else path
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        if file_path:
            Path(file_path).write_text(text, encoding="utf-8")
        else:
            _print_text(text)
    except OSError as error:
        if not file_path:
            _detach_stdout()
        # Python names a file that cannot be opened, but not one that is full.
        error.filename = error.filename or file_path or "standard output"
        raise


def _print_text(text: str) -> None:
    if sys.stdout is None:
        raise GradcheckdError("Standard output is closed. Leave it open, or name a file to write to: --output FILE.")
    # A terminal of few characters is no reason to show nothing.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _detach_stdout() -> None:
    """Discard pending output, so that Python does not write it again at its end, with a status of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
