"""The fork servers of a run on this machine, started before its first job needs them, and its report's script."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from shardmark.engine.worker_client import ALLOCATOR, fork_kind
from shardmark.errors import UserError
from shardmark.installation import SCRIPTS
from shardmark.plan.plan import Plan
from shardmark.processes.forked import USE, server_socket
from shardmark.processes.forkserver import launch_server
from shardmark.processes.sockets import run_folder

THREADS = ("OMP_NUM", "GOTO_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
"Snakemake sets the number of threads for each job in NAME_THREADS."


def start_servers(plan: Plan, cores: int) -> None:
    """Start the imports of the jobs, which may use `cores` cores, while Snakemake prepares them.

    A job that finds no server starts its own, or does without.
    """
    if os.environ.get(USE) == "off":
        return
    with suppress(UserError, OSError):
        run_folder(os.getpid())
        for pair in plan.pairs:
            settings = pair.model.settings
            kind = fork_kind(settings.backend, settings.num_gpus)
            if pair.missing and kind:
                threads = min(settings.cpus, cores)
                _start(f"{kind}-{threads}", ALLOCATOR | _variables(threads))
                break  # other models' servers start in their turn
        if any(not pair.scored for pair in plan.pairs):
            _start("score", _variables(1))
            _make_vega(plan.results)


def _start(kind: str, variables: dict[str, str]) -> None:
    path = server_socket(os.getpid(), kind)
    launch_server(path, os.getpid(), {os.fsencode(name): os.fsencode(value) for name, value in variables.items()})


def _make_vega(results: Path) -> None:
    """Let a process of low priority make the script that draws charts; if it fails, the report makes it."""
    from shardmark.report.vega import kept_vega  # here: most runs import nothing of the report

    if kept_vega(results).exists():
        return
    command = [sys.executable, str(Path(SCRIPTS, "vega.py")), "--results", str(results)]
    none = subprocess.DEVNULL
    subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)


def _variables(threads: int) -> dict[str, str]:
    """The environment variables of a job."""
    return dict(os.environ) | {f"{name}_THREADS": str(threads) for name in THREADS}
