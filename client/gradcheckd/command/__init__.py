"""The command `gradcheckd`."""

import sys

from gradcheckd.command.main import main

__all__ = ["main", "run"]


def run() -> None:
    """Run the command, and leave with its status."""
    sys.exit(main(sys.argv[1:]))
