"""gunicorn's lines in JSON, without its access log.

The application has one line a request.
"""

import logging
import sys
from typing import Any

from gunicorn.glogging import Logger

from service import logs


class JsonLogger(Logger):
    """gunicorn's logger with JSON handlers, for the root logger as well."""

    def setup(self, cfg: Any) -> None:
        """Set up the handlers of gunicorn's loggers and of the root logger."""
        super().setup(cfg)
        logs.log_to_stderr(self.loglevel)
        root = logging.getLogger()
        root.handlers = [logging.StreamHandler()]
        root.setLevel(self.loglevel)
        logging.captureWarnings(capture=True)
        for handler in (*self.error_log.handlers, *root.handlers):
            handler.setFormatter(logs.make_formatter())

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log an error with its traceback; a slow client is no error of the service."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("a client was cut off: it took nothing of its answer for too long")
        else:
            super().exception(msg, *args, **kwargs)
