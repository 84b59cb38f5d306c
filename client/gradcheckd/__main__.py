"""`python -m gradcheckd` is the command."""

from gradcheckd.command import run

run()
