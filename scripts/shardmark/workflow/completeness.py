"""Checks that make "exit status 0" mean that everything a run was asked for exists.

Snakemake marks the outputs of a job before it starts, and considers a file half written while its mark exists. Our
files are written completely or not at all: a mark only tells that Snakemake was killed before it saw the job end. It
must not matter, because a job that Snakemake is forced to repeat hides the jobs that depend on it: all jobs behind it
are passed over, and are checked again only along files that are missing or not `ancient` (Snakemake 9.27,
`DAG.update_needrun`). In that case a run did nothing but stage a model again, and ended well. So marks are ignored; the
rules name a file that another job makes only while it is missing, and never as `ancient`; and in the end the files are
counted, whatever Snakemake believes.
"""

import os
from typing import TYPE_CHECKING, Any

from snakemake.exceptions import WorkflowError

from shardmark.workflow import patches

if TYPE_CHECKING:
    from snakemake.dag import DAG

NAMED = 10
"The most missing files that are named."


def trusts_files(dag: type[Any]) -> None:
    """Let Snakemake's graph of jobs take every existing file for complete, with or without --rerun-incomplete."""

    async def check_incomplete(self: "DAG") -> None:
        """Check no marks."""

    patches.replace(dag, patches.INCOMPLETE, lambda found: check_incomplete)


def missing_targets(dag: "DAG") -> list[str]:
    """The missing files among those that a run was asked for, by its command line or by the rule `all`."""
    wanted = {str(path) for job in dag.targetjobs for path in (job.input if job.rule.norun else job.output)}
    return sorted(path for path in wanted if not os.path.exists(path))


def check_targets(missing: list[str]) -> None:
    """Raise WorkflowError if files are missing at the end of a run that Snakemake considers successful."""
    if missing:
        more = [f"and {len(missing) - NAMED} more"] if len(missing) > NAMED else []
        lines = [
            f"{len(missing)} files that this run should have made are missing, although none of its jobs has failed:"
        ]
        raise WorkflowError("\n    ".join([*lines, *missing[:NAMED], *more]) + "\nrun the same command again")
