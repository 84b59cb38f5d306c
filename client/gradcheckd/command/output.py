"""Where the command writes."""

import sys
from pathlib import Path


def write(text: str, path: str | None = None) -> None:
    """Write a text, with a line's end, to a file or else to standard output."""
    text = text if text.endswith("\n") else f"{text}\n"
    if path:
        Path(path).write_text(text, encoding="utf-8")
    else:
        # A terminal of few characters is no reason to show nothing.
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
