"""The log: a JSON object a line on standard error, so that no text can forge a line."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

LOGGER = "gpt_classifier.serving"


class JsonLines(logging.Formatter):
    """Time, level, message, and what `extra={"fields": …}` adds."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": record.process,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": f"{__name__}.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {LOGGER: {"level": "INFO"}, "uvicorn": {"level": "INFO"}, "uvicorn.access": {"level": "WARNING"}},
}
"""As `logging.config.dictConfig` takes it; the service has a line for each request in place of uvicorn's."""
