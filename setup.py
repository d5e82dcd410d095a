"""The wheel has the debrief's templates compiled; everything else is in pyproject.toml."""

from __future__ import annotations

from importlib import util
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RENDER = Path("scoring/render")


class BuildWithTemplates(build_py):
    """Build the packages, and beside each template its module."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        # As a file: its packages need more than a build has.
        spec = util.spec_from_file_location("template", RENDER / "template.py")
        assert spec is not None
        assert spec.loader is not None
        template = util.module_from_spec(spec)
        spec.loader.exec_module(template)
        for file in RENDER.glob("*.j2"):
            source = file.read_text(encoding="utf-8")
            code = template.compiled(file.name, source, html=".html." in file.name)
            built = Path(self.build_lib, "gameday", RENDER, template.module_name(file.name))
            built.with_suffix(".py").write_text(code, encoding="utf-8")


setup(cmdclass={"build_py": BuildWithTemplates})
