"""Garbage collection: the runs that count, the files that their plans need, and the files to remove."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from shardmark.config.merge import Merged, merge
from shardmark.errors import Problem, UserError
from shardmark.plan.plan import Plan
from shardmark.printable import printable
from shardmark.tools.garbage import File, remove, survey
from shardmark.tools.needs import needs_of
from shardmark.tools.planned import plan_run, results_folder, without_store

RUNS = "config/*.yaml"
SNAKEMAKE = Path(".snakemake/locks")
Step = Callable[[str, int], None]


@dataclass(frozen=True)
class Collection:
    """A results folder with all its files."""

    results: Path
    files: list[File]
    warnings: list[Problem]
    "Damaged files that planning has put aside."

    def garbage(self, stale: bool) -> list[File]:
        """The files that no run needs; with `stale`, also predictions that are only kept to be taken over."""
        return [file for file in self.files if file.fate == "unneeded" or (stale and file.fate == "stale")]


def known_runs(root: Path, only: Iterable[Path] | None = None) -> list[Merged]:
    """The runs of config/*.yaml below `root` in their current state, or `only` some files."""
    files = sorted(root.glob(RUNS)) if only is None else [root / file for file in only]
    return [merge([file], [], str(file.relative_to(root))) for file in files]


def collect(runs: list[Merged], root: Path, step: Step = lambda what, of: None) -> list[Collection]:
    """The results folders of some runs, with the fate of each of their files.

    Raises UserError if there is no results folder, or if a run cannot be planned, which leaves its needs unknown.
    """
    there = [run for run in runs if _results(run).is_dir()]
    if not there:
        results_folder(_results(runs[0]) if runs else Path("results"), runs[0].where if runs else RUNS)
    plans = _plans(there, root, step)
    folders: dict[Path, list[Plan]] = {}
    for plan in plans:
        folders.setdefault(plan.results.resolve(), []).append(plan)
    return [_collection(plans) for plans in folders.values()]


def _collection(plans: list[Plan]) -> Collection:
    results = plans[0].results
    warnings = [warning for plan in plans for warning in plan.warnings]
    return Collection(results, list(survey(results, needs_of(plans))), warnings)


def _results(run: Merged) -> Path:
    return Path(str(run.config.get("results", "results")))


def _plans(runs: list[Merged], root: Path, step: Step) -> list[Plan]:
    plans, problems = [], []
    for run in runs:
        try:
            plans.append(plan_run(without_store(run), root, local=False, step=step))
        except UserError as error:
            what = "this run cannot be planned, so what it needs is not known, and nothing is removed"
            fix = "fix it, or leave it out: --only FILE ... names the runs that count"
            problems += [Problem(run.where, "", what, fix), *error.problems]
    if problems:
        raise UserError(problems)
    return plans


def delete(found: list[Collection], stale: bool, root: Path) -> None:
    """Remove the files that no run needs. Raises UserError while Snakemake runs here, or if one cannot be removed."""
    if any((root / SNAKEMAKE).glob("*.lock")):
        what = "a run is going on in this folder, or was killed"
        fix = "wait for it or, if it was killed, snakemake --unlock --profile local"
        raise UserError(Problem(str(SNAKEMAKE), "", what, fix))
    for collection in found:
        remove(collection.results, collection.garbage(stale))


def print_collection(found: Collection, stale: bool, console: Console) -> None:
    """Print a line for each kind of file that goes, and the files that stay for other reasons than being needed."""
    garbage = found.garbage(stale)
    table = Table(printable(f"in {found.results}"), "files", "size", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind in sorted({file.kind for file in garbage}):
        table.add_row(kind, *_totals(file for file in garbage if file.kind == kind))
    table.add_section()
    table.add_row("not needed by any run", *_totals(garbage))
    console.print(table)
    for fate, why in _reasons(stale).items():
        files = [file for file in found.files if file.fate == fate]
        if files:
            count, size = _totals(files)
            console.print(
                f"kept: {count} files, {size}: {why}, such as {printable(str(files[0].path))}",
                markup=False,
                highlight=False,
            )


def _reasons(stale: bool) -> dict[str, str]:
    reasons = {
        "fresh": "a process may still use them",
        "unknown": "not Shardmark's files, or links",
    }
    return reasons if stale else {"stale": "answers that later shards may reuse (--stale removes them)"} | reasons


def _totals(files: Iterable[File]) -> tuple[str, str]:
    sizes = [file.size for file in files]
    return f"{len(sizes):,}", decimal(sum(sizes))
