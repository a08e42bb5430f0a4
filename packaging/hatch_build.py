"""Puts the files of a clone's folders where an installed Shardmark has them; pyproject.toml names the rest."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WORKFLOW = "shardmark/_workflow"


class Workflow(BuildHookInterface):  # type: ignore[misc]
    """The Snakefile, the commands, and what leads these to the library."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add them to a wheel. An editable one leaves all where it is: the folder is a clone."""
        if version == "editable":
            return
        root = Path(self.root)
        commands = [path.relative_to(root).as_posix() for path in sorted(root.glob("scripts/*.py"))]
        build_data["force_include"] |= {name: f"{WORKFLOW}/{name}" for name in ["Snakefile", *commands]}
        shim = f"{WORKFLOW}/scripts/shardmark/__init__.py"
        build_data["force_include"]["packaging/scripts_shardmark.py"] = shim
