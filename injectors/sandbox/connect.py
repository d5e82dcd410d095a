"""Finding a sandbox again by its reference, importing only the driver that it needs."""

from __future__ import annotations

from gameday.injectors.errors import UsageError
from gameday.injectors.sandbox.base import Sandbox
from gameday.injectors.undo import SandboxRef

__all__ = ["connect"]


async def connect(ref: SandboxRef) -> Sandbox:
    """The sandbox that ``ref`` leads to, whatever process made it.

    Raises:
        UsageError: if there is no driver of that kind.
    """
    match ref.kind:
        case "local":
            from gameday.injectors.sandbox.local.driver import LocalSandbox

            return await LocalSandbox.connect(ref)
        case "attached":
            from gameday.injectors.sandbox.attached import AttachedSandbox

            return await AttachedSandbox.connect(ref)
        case "fake":
            from gameday.injectors.sandbox.fake import FakeSandbox

            return await FakeSandbox.connect(ref)
    raise UsageError(
        f"there is no sandbox of kind {ref.kind!r}", hint="There are: local, attached, fake."
    )
