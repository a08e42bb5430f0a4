"""What makes "exit status 0" mean that all a run was asked for is there.

Snakemake marks the outputs of a job before it starts, and takes a file for half written while its mark is there. Ours
are written whole or not at all: a mark only tells that Snakemake was killed before it saw the job end. It must not
matter, for a job that Snakemake is forced to repeat hides what depends on it: all jobs behind it are passed over, and
are looked at again only along files that are missing or not `ancient` (Snakemake 9.27, `DAG.update_needrun`). A model
staged again was then the whole run, and it ended well. So marks are not looked at; the rules name a file that another
job makes only while it is missing, and never as `ancient`; and whatever Snakemake believes, the files are counted.
"""

import os
from typing import TYPE_CHECKING, Any

from snakemake.exceptions import WorkflowError

from shardmark.workflow import patches

if TYPE_CHECKING:
    from snakemake.dag import DAG

NAMED = 10
"How many missing files are named at most."


def trusts_files(dag: type[Any]) -> None:
    """Have Snakemake's graph of jobs take every file that exists for whole, with or without --rerun-incomplete."""

    async def check_incomplete(self: "DAG") -> None:
        """Look for no marks."""

    patches.replace(dag, patches.INCOMPLETE, lambda found: check_incomplete)


def missing_targets(dag: "DAG") -> list[str]:
    """The files that a run was asked for, by its command line or by the rule `all`, and that are not there."""
    wanted = {str(path) for job in dag.targetjobs for path in (job.input if job.rule.norun else job.output)}
    return sorted(path for path in wanted if not os.path.exists(path))


def check_targets(missing: list[str]) -> None:
    """End a run that Snakemake takes for successful with an error if files are missing. Raises WorkflowError."""
    if missing:
        more = [f"and {len(missing) - NAMED} more"] if len(missing) > NAMED else []
        lines = [f"{len(missing)} files that this run was to make are missing, though none of its jobs has failed:"]
        raise WorkflowError("\n    ".join([*lines, *missing[:NAMED], *more]) + "\ncall the same command again")
