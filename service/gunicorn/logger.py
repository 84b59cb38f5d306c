"""gunicorn's own lines as JSON too, and its log of accesses off: the application has one line a request."""

import logging
import sys
from typing import Any

from gunicorn.glogging import Logger

from service import logs


class JsonLogger(Logger):
    """gunicorn's logger, all of whose handlers write JSON; the root of the standard library's loggers with it."""

    def setup(self, cfg: Any) -> None:
        """Set the handlers up."""
        super().setup(cfg)
        logs.log_to_stderr(self.loglevel)
        root = logging.getLogger()
        root.handlers = [logging.StreamHandler()]
        root.setLevel(self.loglevel)
        logging.captureWarnings(capture=True)
        for handler in (*self.error_log.handlers, *root.handlers):
            handler.setFormatter(logs.make_formatter())

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log an error with its traceback; that a client was too slow is no error of ours."""
        if isinstance(sys.exc_info()[1], BlockingIOError):
            self.info("a client that took nothing of its answer for too long was cut off")
        else:
            super().exception(msg, *args, **kwargs)
