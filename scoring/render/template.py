"""Templates beside this file; the engine is imported only when something is rendered."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

__all__ = ["environment", "read"]


def read(name: str) -> str:
    """A file beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def environment(*, html: bool) -> jinja2.Environment:
    """Jinja over the files beside this module; what is undefined is an error, HTML is escaped."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        optimized=False,  # rendered once: folding constants would take longer than it saves
        keep_trailing_newline=True,
    )
