"""A folder for the user's own models, data sets and runs, separate from an installation that stays unchanged."""

import shutil
from pathlib import Path
from typing import NamedTuple

from shardmark.errors import Problem, UserError
from shardmark.files import write_whole
from shardmark.installation import INSTALLATION

TEMPLATES = Path(__file__).parent / "new_project"
PLACE = "@INSTALLATION@"
"The placeholder for Shardmark's location in the templates."
PROFILES = ("local", "slurm")
HIDDEN = {"gitignore": ".gitignore"}
"Files whose real names would hide them, or make them Shardmark's own."


class Made(NamedTuple):
    """A file of a new folder."""

    path: Path
    is_new: bool
    "False if it existed before: it is left as it is."


def init(folder: Path) -> list[Made]:
    """Write the files that a folder needs and lacks. Raises UserError for the installation itself."""
    if folder.resolve() == Path(INSTALLATION).resolve():
        what = "this is Shardmark itself, where you can add models and data sets directly"
        raise UserError(Problem(str(folder), "", what, "name another folder"))
    templates = [path.relative_to(TEMPLATES) for path in TEMPLATES.rglob("*") if path.is_file()]
    wanted = {HIDDEN.get(str(path), str(path)): TEMPLATES / path for path in templates}
    wanted |= {f"profiles/{name}/config.yaml": Path(INSTALLATION, "profiles", name, "config.yaml") for name in PROFILES}
    return [_made(folder / name, source) for name, source in sorted(wanted.items())]


def _made(path: Path, source: Path) -> Made:
    if path.exists():
        return Made(path, False)
    path.parent.mkdir(parents=True, exist_ok=True)
    if source.is_relative_to(TEMPLATES):
        write_whole(path, source.read_text("utf-8").replace(PLACE, INSTALLATION))
    else:
        shutil.copyfile(source, path)
    return Made(path, True)
