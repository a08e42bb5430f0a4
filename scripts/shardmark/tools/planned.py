"""Plans for commands, with what the file system refuses as a message."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.plan import Plan, make_plan

WIDTH = 160
"Columns for tables that go into a file or a pipe."


def console() -> Console:
    """Where commands print their tables: as wide as the terminal, and never so narrow that a file's names break."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def plan_run(run: Merged, root: Path, local: bool, step: Callable[[str, int], None] = lambda what, of: None) -> Plan:
    """The plan of a run as the Snakefile makes it, `local` with the GPUs of this machine in mind. Raises UserError."""
    with refusals(run.where, "the plan cannot be written"):
        return make_plan(run.config, root, run.where, local, step, run.command_line)


@contextmanager
def refusals(where: str, what: str) -> Iterator[None]:
    """A block whose OSError, such as that of a full disk or a read-only folder, is raised as a UserError."""
    try:
        yield
    except OSError as error:
        fix = "free or enlarge the disk, fix the permissions, or choose another folder with --config results=..."
        raise UserError(Problem(where, "results", f"{what}: {error.filename}: {error.strerror}", fix)) from error


def results_folder(results: Path, where: str) -> Path:
    """The results folder of a run, which must be there. Raises UserError."""
    if not results.is_dir():
        what = f"there is no folder {results}: nothing has been planned or run yet"
        fix = "start a run first, or name its folder with --config results=..."
        raise UserError(Problem(where, "results", what, fix))
    return results
