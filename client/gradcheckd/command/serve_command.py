"""`gradcheckd serve`."""

import os
import sys
from argparse import Namespace

from gradcheckd import local_service
from gradcheckd.errors import GradcheckdError
from gradcheckd.in_process import HOW_TO_INSTALL

SETTINGS_HELP = "All settings of the service are environment variables, GRADCHECKD_...: see its README."
_VARIABLE_BY_OPTION = {"host": "HOST", "port": "PORT", "workers": "WEB_CONCURRENCY"}


def serve_service(arguments: Namespace) -> int:
    """Become the service, with its own configuration of gunicorn.

    Raises
    ------
    GradcheckdError
        It is not installed; with the ways to install it.
    """
    if not local_service.is_installed():
        raise GradcheckdError(HOW_TO_INSTALL)
    settings = {
        variable: str(getattr(arguments, option))
        for option, variable in _VARIABLE_BY_OPTION.items()
        if getattr(arguments, option) is not None
    }
    environment = local_service.build_environment(settings)
    address = f"http://{environment.get('HOST', '127.0.0.1')}:{environment.get('PORT', '8000')}"
    print(
        f"gradcheckd serves on {address}; the page is there too. Stop it with Ctrl-C.",
        file=sys.stderr,
        flush=True,
    )
    # This very process, so that signals reach the service, whoever sends them.
    os.execve(sys.executable, local_service.build_command(), environment)
