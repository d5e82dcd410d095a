"""Templates beside this file; the engine is imported only when something is rendered.

In a wheel they are there as Python, too, by the engine that the wheel was built with:
compiling them takes longer than all that a small debrief takes otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

__all__ = ["compiled", "get_template", "module_name", "read"]


def read(name: str) -> str:
    """A file beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def get_template(
    name: str, *, html: bool, filters: Mapping[str, Callable[..., Any]]
) -> jinja2.Template:
    """The template in the file ``name``; with ``html``, what it prints is escaped."""
    import jinja2

    environment = _environment(html=html)
    environment.filters.update(filters)
    try:
        ready = import_module(f"{__package__}.{module_name(name)}")
    except ModuleNotFoundError:  # in a checkout
        return environment.get_template(name)
    if jinja2.__version__ != ready.ENGINE:
        return environment.get_template(name)
    return environment.template_class.from_module_dict(
        environment, vars(ready), environment.make_globals(None)
    )


def compiled(name: str, source: str, *, html: bool) -> str:
    """The template as a Python module, for `get_template` to find as `module_name`."""
    import jinja2

    environment = _environment(html=html)
    for used in environment.parse(source).find_all(jinja2.nodes.Filter):
        environment.filters.setdefault(used.name, str)  # ours are looked up when it is rendered
    code = environment.compile(source, name, name, raw=True, defer_init=True)
    return f"ENGINE = {jinja2.__version__!r}\n{code}\n"


def module_name(name: str) -> str:
    """``debrief.html.j2`` is compiled into the module ``_debrief_html``."""
    return "_" + name.removesuffix(".j2").replace(".", "_")


def _environment(*, html: bool) -> jinja2.Environment:
    """What is undefined is an error."""
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
