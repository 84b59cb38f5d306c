"""The command `gradcheckd`."""

import sys

from gradcheckd.command.main import main

__all__ = ["main", "run_command"]


def run_command() -> None:
    """Run the command, and leave with its status."""
    sys.exit(main(sys.argv[1:]))
