"""Structured logs: one JSON object a line, on stdout."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["Log", "open_log"]


class _JsonLines(logging.Formatter):
    def __init__(self, service: str, slot: str) -> None:
        super().__init__()
        self._who = {"service": service, "slot": slot}

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._who,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Log:
    """Writes lines with fields: ``log.warning("no answer", upstream="api-2")``."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, message: str, **fields: object) -> None:
        self._logger.debug(message, extra={"fields": fields})

    def info(self, message: str, **fields: object) -> None:
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, **fields: object) -> None:
        self._logger.error(message, extra={"fields": fields})


def open_log(service: str, slot: str, level: str) -> Log:
    """Send everything that is logged in this process, by libraries too, to stdout as JSON.

    Raises:
        ValueError: if ``level`` is no level.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines(service, slot))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # A log that cannot be written (a full disk) must not fill stderr with tracebacks.
    logging.raiseExceptions = False
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return Log(logging.getLogger("shop"))
