"""The fork servers of a run on this machine, started before its first job needs them, and its report's script."""

import os
import subprocess
from contextlib import suppress

from shardmark import layout
from shardmark.config import Benchmark
from shardmark.config.model import ModelConfig
from shardmark.config.wording import WordedConfig
from shardmark.engine.worker_client import ALLOCATOR, fork_kind
from shardmark.errors import UserError
from shardmark.plan.plan import Plan
from shardmark.processes.forked import USE, server_socket
from shardmark.processes.launch import launch_server
from shardmark.processes.sockets import run_folder

THREADS = ("OMP_NUM", "GOTO_NUM", "OPENBLAS_NUM", "MKL_NUM", "NUMEXPR_NUM", "VECLIB_MAXIMUM")
"Snakemake sets the number of threads for each job in NAME_THREADS."


_begun: dict[str, tuple["subprocess.Popen[bytes]", dict[str, str]]] = {}
"The servers that this process has started, by kind, with their environment variables."


def start_first_worker(benchmark: Benchmark, cores: int) -> None:
    """Start the imports of the first worker while the plan is made, if it is already clear that there is work for it.

    It is if a model has left no predictions or scores. If its plan is refused, the server ends with this process.
    """
    if os.environ.get(USE) == "off" or benchmark.run.rescore:
        return
    for model in benchmark.models:
        kind = _kind(model.settings)
        if kind and not _has_results(model.name, benchmark.run.results):
            with suppress(UserError, OSError):
                run_folder(os.getpid())
                _start_worker(kind, model.settings.cpus, cores)
            return


def _kind(settings: ModelConfig) -> str:
    own_code = isinstance(settings, WordedConfig) and settings.trust_remote_code
    return fork_kind(settings.backend, settings.num_gpus, own_code)


def _has_results(model: str, results: str) -> bool:
    """Whether there are predictions or scores of a model of this name."""
    full_name = layout.full_name(model, "*")
    return any(kind.folders(results, model=full_name, dataset="*") for kind in (layout.PREDICTIONS, layout.SCORES))


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
            kind = _kind(settings)
            if pair.missing and kind:
                _start_worker(kind, settings.cpus, cores)
                break  # other models' servers start in their turn
        if any(not pair.scored for pair in plan.pairs):
            _start("score", _variables(1))
            from shardmark.report.vega import begin_vega  # here: most runs import nothing of the report

            begin_vega(plan.results)


def _start_worker(kind: str, cpus: int, cores: int) -> None:
    threads = min(cpus, cores)
    _start(f"{kind}-{threads}", ALLOCATOR | _variables(threads))


def _start(kind: str, variables: dict[str, str]) -> None:
    """Start a server, unless it has been started with these variables: it would refuse jobs that have others."""
    if kind in _begun:
        process, known = _begun[kind]
        if known == variables:
            return
        process.kill()
        process.wait()
    path = server_socket(os.getpid(), kind)
    encoded = {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}
    _begun[kind] = (launch_server(path, os.getpid(), encoded), variables)


def _variables(threads: int) -> dict[str, str]:
    """The environment variables of a job."""
    return dict(os.environ) | {f"{name}_THREADS": str(threads) for name in THREADS}
