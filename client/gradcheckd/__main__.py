"""`python -m gradcheckd` is the command."""

from gradcheckd.command import run_command

run_command()
