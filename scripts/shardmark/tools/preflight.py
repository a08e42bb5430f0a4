"""Everything that a run lacks on this machine, in one list, and what it needs from the Hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.filesize import decimal

from shardmark.config.merge import Merged
from shardmark.errors import UserError
from shardmark.plan.hub_files import content_problems
from shardmark.plan.missing import missing_problems, needed
from shardmark.tools.node_probe import probe_nodes
from shardmark.tools.planned import plan_run


def preflight(run: Merged, root: Path, local: bool, slurm: Mapping[str, str] | None = None) -> Iterator[str]:
    """A line for each repository that jobs need, and the number of jobs; `local`: they run on this machine.

    `slurm` are the profile's flags if they run on Slurm, of which a node is then checked. Every file that is here is
    compared with the lock. Raises UserError with all that is missing or wrong.
    """
    plan = plan_run(run, root, local)
    models = plan.waiting_models()
    for need in needed(models):
        identity = need.place.repository.identity
        size = sum(fault.size or 0 for fault in need.missing)
        state = f"{len(need.missing)} to download, {decimal(size)}" if need.missing else "complete"
        yield f"{identity.repository}@{identity.commit[:12]}: {need.files} files, {decimal(need.bytes)}: {state}"
    problems = content_problems(models, plan.results, everything=True) + missing_problems(models)
    if slurm is not None:
        said: list[str] = []
        problems += probe_nodes(plan, slurm, said.append)
        yield from said
    if problems:
        raise UserError(problems)
    requests = sum(pair.requests for pair in plan.pairs)
    yield f"nothing is missing for the {requests:,} requests of this run that have no answer yet"
