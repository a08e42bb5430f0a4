"""A module that stands in for the engine's transformers in all processes that have a folder on their PYTHONPATH."""

from pathlib import Path

REPLACED = "shardmark.engine.transformers.model"
FINDER = f"""
import sys
from importlib.util import spec_from_file_location


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {REPLACED!r}:
            return spec_from_file_location(name, __file__.replace("sitecustomize", "stand_in"))


sys.meta_path.insert(0, Finder())
"""


def write_stand_in(folder: Path, code: str, at_start: str = "") -> None:
    """Put a module whose `open_backend` makes the backend into a folder for PYTHONPATH; `at_start` is run, too."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "stand_in.py").write_text(code)
    (folder / "sitecustomize.py").write_text(FINDER + at_start)
