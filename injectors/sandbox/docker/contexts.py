"""Where Docker's own client would look for the engine: `docker context use`, ``DOCKER_CONTEXT``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gameday.injectors.errors import UsageError
from gameday.injectors.reading import UNREADABLE

__all__ = ["config_folder", "in_use"]

_DEFAULT = "default"


class _Config(msgspec.Struct):
    current: str = msgspec.field(default="", name="currentContext")


class _Endpoint(msgspec.Struct):
    host: str = msgspec.field(default="", name="Host")
    unchecked: bool = msgspec.field(default=False, name="SkipTLSVerify")


class _Context(msgspec.Struct):
    endpoints: dict[str, _Endpoint] = msgspec.field(default_factory=dict, name="Endpoints")


def config_folder(environment: Mapping[str, str]) -> Path:
    """Where Docker's client keeps its configuration."""
    return Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")


def in_use(environment: Mapping[str, str]) -> dict[str, str]:
    """The context in use, as the variables that lead to the same engine; empty for the local one.

    Raises:
        UsageError: if it is not there, cannot be read, or leads nowhere.
    """
    folder = config_folder(environment)
    name = environment.get("DOCKER_CONTEXT") or _current(folder)
    if name in ("", _DEFAULT):
        return {}
    identity = hashlib.sha256(name.encode()).hexdigest()
    path = folder / "contexts" / "meta" / identity / "meta.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Context).endpoints.get("docker")
    except FileNotFoundError:
        raise _useless(name, "is not there") from None
    except (OSError, *UNREADABLE) as error:
        raise _useless(name, f"cannot be read: {error}") from None
    if found is None or not found.host:
        raise _useless(name, "leads to no engine")
    where = {"DOCKER_HOST": found.host}
    keys = folder / "contexts" / "tls" / identity / "docker"
    if found.host.startswith("tcp:") and (keys.is_dir() or found.unchecked):
        if found.unchecked:
            raise _useless(name, "does not check whose engine it is (skip-tls-verify)")
        where |= {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(keys)}
    return where


def _current(folder: Path) -> str:
    try:
        return msgspec.json.decode((folder / "config.json").read_bytes(), type=_Config).current
    except (OSError, *UNREADABLE):
        return ""  # as Docker's client has it


def _useless(name: str, why: str) -> UsageError:
    return UsageError(
        f"the Docker context {name!r}, which is in use, {why}",
        hint="Choose another by `docker context use` or DOCKER_CONTEXT, or set DOCKER_HOST.",
    )
