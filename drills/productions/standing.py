"""Bringing a sandbox up that stands outside any drill: `gameday sandbox up`."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.sandbox.process import process_id
from gameday.scenarios.load import load_cluster
from gameday.scenarios.sandboxes import APPS, app_compose, app_declaration

__all__ = ["bring_up"]


async def bring_up(
    kind: str, declaration: str, logs: Path | None, *, detach: bool
) -> tuple[Sandbox, Path]:
    """A sandbox of that kind, well and ready, and the folder of its logs.

    Args:
        declaration: A file, or the name of a shipped application.
        logs: Where its logs go; None for a folder of its own under ``.gameday``.
        detach: Whether it stands longer than this process.

    Raises:
        GamedayError: if it does not come up; nothing is left of it then.
    """
    me = process_id(os.getpid())
    owners = [] if detach or me is None else [me]
    if kind == "docker":
        from gameday.injectors.sandbox.docker.driver import DockerSandbox

        path = app_compose(declaration) if declaration in APPS else Path(declaration)
        await DockerSandbox.preflight()
        tag, log_dir = _named(path.parent.name if declaration in APPS else path.stem, logs)
        ref = DockerSandbox.plan_ref(tag, bring_up=True, deeds=log_dir / "hands.jsonl")
        box = await DockerSandbox.up(ref, files=[path], owners=owners, log_dir=log_dir)
        return box, log_dir
    from gameday.injectors.sandbox.local.driver import LocalSandbox

    path = app_declaration(declaration) if declaration in APPS else Path(declaration)
    cluster = load_cluster(path).value
    tag, log_dir = _named(cluster.name, logs)
    local = await LocalSandbox.up(
        cluster,
        LocalSandbox.plan_ref(None, tag),
        log_dir=log_dir,
        owners=owners,
        folder=path.absolute().parent,
    )
    return local, log_dir


def _named(name: str, logs: Path | None) -> tuple[str, Path]:
    """What everything of it carries, and the folder of its logs, which is made."""
    plain = "".join(letter for letter in name.lower() if letter.isalnum() or letter == "-")
    tag = f"{plain or 'sandbox'}-{secrets.token_hex(3)}"
    log_dir = (logs or Path(".gameday") / "sandboxes" / tag).absolute()
    log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tag, log_dir
