"""results/reports/{run}: a link to the run's newest report, whose own folder is named by its content."""

import os
from pathlib import Path

from shardmark.errors import Problem, UserError


def link_newest(report: Path, link: Path) -> None:
    """Make `link` point to the folder `report` beside it, in one step."""
    if link.is_dir() and not link.is_symlink():
        fix = "move it away: its name is needed for the link to the newest report"
        raise UserError(Problem(str(link), "", "is a folder, not a link", fix))
    if link.is_symlink() and os.readlink(link) == report.name:
        return
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(report.name, target_is_directory=True)
    os.replace(temporary, link)
