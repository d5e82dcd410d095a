"""Pages to a webhook, in the form of Alertmanager's webhook receiver (version 4).

Whatever takes alerts from Alertmanager takes these; the labels ``exercise`` and
``drill`` keep them out of production metrics.
"""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from gameday.drills.channels.message import MARK, ChannelError, Message
from gameday.drills.http import HttpFailure, request
from gameday.injectors.errors import UsageError
from gameday.scenarios.source import read_source

__all__ = ["Webhook", "read_webhook", "redacted"]

_TIMEOUT = 5.0
_LONGEST = 8192
_PLAIN = re.compile(r"[\x21-\x7e]+")
_NEVER_SENT = ("refused", "unknown-host", "unreachable", "tls")


def redacted(url: str) -> str:
    """What may be shown of a webhook: its host; path, query and login may be a secret."""
    try:
        parts = urlsplit(url)
        if parts.scheme and parts.hostname:
            return f"{parts.scheme}://{parts.hostname}/…"
    except ValueError:
        pass
    return f"what was given ({len(url)} characters, not shown)"


def read_webhook(given: str) -> str:
    """The URL that was given: itself, or ``@FILE`` for what stands in a file.

    Raises:
        UsageError: if the file cannot be read, or it is no webhook.
    """
    url = read_source(Path(given[1:]), limit=_LONGEST) if given.startswith("@") else given
    url = url.strip()
    Webhook(url)  # refused now, not once a sandbox stands
    return url


class Webhook:
    """Posts each message to one URL."""

    name = "webhook"

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # half an IPv6 address, or a port that is none
            host = port = None
        if host is None or parts.scheme not in ("http", "https") or not _PLAIN.fullmatch(url):
            raise UsageError(
                f"{redacted(url)} is no webhook; a URL with http or https was expected",
                hint="Write it as https://example.org/hook.",
            )
        self.host = host
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = port or (443 if self.tls else 80)
        self.headers = {"Content-Type": "application/json"}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    async def send(self, message: Message) -> None:
        """Post it; a 2xx answer accepts it, a 4xx (but 408, 429) never will."""
        try:
            answer = await request(
                "POST",
                self.host,
                self.port,
                self.target,
                headers=self.headers,
                body=msgspec.json.encode(_alertmanager(message)),
                tls=self.tls,
                timeout=_TIMEOUT,
            )
        except HttpFailure as error:
            arrived = error.kind not in _NEVER_SENT
            raise ChannelError(str(error), retry=True, arrived=arrived) from error
        if answer.status >= 300:
            again = answer.status >= 500 or answer.status in (408, 429)
            raise ChannelError(f"it answered {answer.status}", retry=again, arrived=again)


def _alertmanager(message: Message) -> dict[str, Any]:
    at = datetime.fromtimestamp(message.at, UTC).isoformat()
    over = message.status == "resolved"
    labels = {
        "alertname": message.title,
        "severity": message.severity,
        "tier": message.tier,
        "exercise": "true",
        "drill": message.drill,
    }
    annotations = {
        "summary": f"{MARK}{' ENDED' if over else ''}: {message.summary}",
        "impact": message.impact,
        "verify": message.verify,
        "first_step": message.first_step,
        "escalate": message.escalate,
        "runbook": message.runbook,
        "value": message.value,
    }
    alert = {
        "status": "resolved" if over else "firing",
        "labels": labels,
        "annotations": {key: text for key, text in annotations.items() if text},
        "startsAt": at,
        "endsAt": at if over else "0001-01-01T00:00:00Z",
        "fingerprint": message.key,
    }
    return {
        "version": "4",
        "receiver": "gameday",
        "status": alert["status"],
        "groupKey": message.key,
        "groupLabels": {"alertname": message.title},
        "commonLabels": labels,
        "commonAnnotations": alert["annotations"],
        "externalURL": "",
        "alerts": [alert],
    }
