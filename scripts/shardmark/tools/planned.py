"""Plans for commands, with errors of the file system as messages."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from shardmark.config.merge import Merged
from shardmark.errors import Problem, UserError
from shardmark.plan.plan import Plan, make_plan

WIDTH = 160
"The width in columns of tables written to a file or a pipe."


def console() -> Console:
    """The console for commands' tables: as wide as the terminal, and never so narrow that a file's names break."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDTH)


def plan_run(
    run: Merged,
    root: Path,
    local: bool,
    step: Callable[[str, int], None] = lambda what, of: None,
    dry: bool = True,
) -> Plan:
    """The plan of a run as the Snakefile makes it; `local`: for the GPUs of this machine. Raises UserError."""
    with refusals(run.where, "the plan cannot be written"):
        return make_plan(run.config, root, run.where, local, step, run.command_line, dry)


def without_store(run: Merged) -> Merged:
    """The run with only the answers in its own results folder, and none from a shared store."""
    kept = {key: value for key, value in run.config.items() if key not in ("store", "store_trust")}
    return replace(run, config=kept, command_line=run.command_line - {"store", "store_trust"})


@contextmanager
def refusals(where: str, what: str) -> Iterator[None]:
    """A block whose OSError, such as for a full disk or a read-only folder, becomes a UserError."""
    try:
        yield
    except OSError as error:
        fix = "free some disk space, fix the permissions, or choose another folder with --config results=..."
        place = f"{error.filename}: " if error.filename else ""  # a full disk names no file
        raise UserError(Problem(where, "results", f"{what}: {place}{error.strerror}", fix)) from error


def results_folder(results: Path, where: str) -> Path:
    """The results folder of a run, which must exist. Raises UserError."""
    if not results.is_dir():
        what = f"there is no folder {results}: nothing has been planned or run yet"
        fix = "start a run first, or name its folder with --config results=..."
        raise UserError(Problem(where, "results", what, fix))
    return results
