"""What of Snakemake is replaced, and what is said of a Snakemake that is not the one that was read."""

import asyncio
import getpass
import os
import pwd
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import snakemake.cli  # noqa: F401 - its modules import each other in circles: this one comes first
import snakemake_executor_plugin_cluster_generic as generic
import snakemake_executor_plugin_slurm as slurm
import yaml
from snakemake import common, rules, sourcecache
from snakemake.dag import DAG
from snakemake.exceptions import WorkflowError
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from shardmark.workflow import patches
from shardmark.workflow.interrupts import cancels_all, ends_at_once, submits_none_afterwards
from shardmark.workflow.rule_inputs import inspect_once
from shardmark.workflow.sources import reads_plainly

REMOTE = [
    patches.SUBMITTED,
    patches.SUCCEEDED,
    patches.FAILED,
    patches.CANCEL_JOBS,
    patches.CANCEL,
    patches.RUN_JOB,
    patches.SLEEP,
]
INSTALLED = [
    (DAG, patches.INCOMPLETE),
    (JobScheduler, patches.TERMINATION),
    (JobScheduler, patches.REEVALUATION),
    (sourcecache, patches.PARSE),
    (common, patches.PARAMETERS),
    (rules, patches.PARAMETERS),
    (sourcecache.SourceCache, patches.OPEN),
    (slurm, patches.SLURM_QUERY),
    (slurm.Executor, patches.SLURM_SUBMITTED),
    (slurm.Executor, patches.SLURM_RUN_JOB),
    (slurm.Executor, patches.SLURM_FAILED),
    *((owner, part) for owner in (RemoteExecutor, slurm.Executor, generic.Executor) for part in REMOTE),
]


@pytest.fixture(autouse=True)
def _none_noted() -> Iterator[None]:
    patches._unlike.clear()
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)
    patches._unlike.clear()


@pytest.mark.parametrize(("owner", "part"), INSTALLED, ids=lambda value: getattr(value, "__name__", None))
def test_the_snakemake_that_is_installed_is_as_it_was_read(owner: Any, part: patches.Part) -> None:
    copy = type(owner.__name__, (), {part.name: getattr(owner, part.name)})
    patches.replace(copy, part, lambda found: lambda *_: "replaced")
    assert patches.unlike() == []
    assert getattr(copy, part.name)() == "replaced"


def test_a_part_can_be_replaced_twice() -> None:
    class Executor:
        def cancel(self) -> list[str]:
            return ["own"]

    def adding(word: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return lambda found: lambda self: [*found(self), word]

    patches.replace(Executor, patches.CANCEL, adding("one"))
    patches.replace(Executor, patches.CANCEL, adding("two"))
    assert Executor().cancel() == ["own", "one", "two"]


@pytest.mark.parametrize("attributes", [{}, {"cancel": lambda self, reason: "own"}, {"cancel": None}])
def test_an_unknown_part_stays_and_is_told(attributes: dict[str, Any]) -> None:
    executor = type("Executor", (), dict(attributes))
    patches.replace(executor, patches.CANCEL, lambda found: lambda self: "replaced")
    assert vars(executor).get("cancel") is attributes.get("cancel")
    assert patches.unlike() == [
        f"Snakemake's Executor.cancel differs from the versions that Shardmark knows: {patches.CANCELLING}"
    ]


class Other:
    """An executor of a later version: it submits otherwise, and its jobs have no common name."""

    def __init__(self) -> None:
        self.active = ["a", "b"]
        self.cancelled: list[str] = []

    def report_job_submission(self, job_info: Any, register_job: bool = True, late: bool = False) -> None: ...

    def report_job_success(self, job_info: Any) -> None: ...

    def report_job_error(self, job_info: Any, msg: str | None = None, **kwargs: Any) -> None: ...

    def run_job(self, job: Any) -> None: ...

    def cancel(self) -> None:
        self.cancel_jobs(self.active)

    def cancel_jobs(self, active_jobs: list[str]) -> None:
        self.cancelled += active_jobs

    async def sleep(self) -> None:
        await asyncio.sleep(0)


def test_an_interrupt_cancels_jobs_whatever_the_executor_has_no_more() -> None:
    executor = type("Later", (Other,), {})
    submits_none_afterwards(executor)
    cancels_all(executor)
    running = executor()
    running.cancel()
    assert running.cancelled == ["a", "b"]
    assert len(patches.unlike()) == 1


def test_a_timer_of_the_scheduler_does_not_hold_up_the_end_of_a_run() -> None:
    class Scheduler:
        _open_jobs = threading.Semaphore(0)

        def _schedule_reevalutation(self, delay: float) -> None:
            raise AssertionError("not replaced")

    before = {*threading.enumerate()}
    ends_at_once(Scheduler)
    Scheduler()._schedule_reevalutation(0.3)
    (timer,) = {*threading.enumerate()} - before
    assert timer.daemon
    assert Scheduler._open_jobs.acquire(timeout=10), "it still has the scheduler look for jobs"


def test_snakefiles_on_this_machine_are_read_without_smart_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sourcecache, "parse_uri", sourcecache.parse_uri)
    monkeypatch.setattr(sourcecache.SourceCache, "_open", sourcecache.SourceCache._open)
    before = sourcecache.parse_uri(str(tmp_path))
    reads_plainly(sourcecache)
    assert sourcecache.parse_uri(str(tmp_path)) == tuple(before)
    assert sourcecache.parse_uri("https://host/a").scheme == "https"
    (tmp_path / "Snakefile").write_text("rule é:\r\n", "utf-8", newline="")
    cache = sourcecache.SourceCache(tmp_path / "cache")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "smart_open", None)  # type: ignore[arg-type]
        with cache.open(sourcecache.LocalSourceFile(str(tmp_path / "Snakefile"))) as file:
            assert file.read() == "rule é:\n"
        with cache.open(sourcecache.LocalSourceFile(str(tmp_path / "Snakefile")), "rb") as file:
            assert file.read() == "rule é:\r\n".encode()
    with pytest.raises(WorkflowError, match="Failed to open source file"):
        cache.open(sourcecache.LocalSourceFile(str(tmp_path)))


def test_a_function_of_a_rule_is_inspected_once_and_what_cannot_be_hashed_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inspected: list[Any] = []
    monkeypatch.setattr(common, "get_function_params", lambda func: inspected.append(func))
    inspect_once(common)
    for function in (len, [], len, []):
        common.get_function_params(function)
    assert inspected == [len, [], []]
    assert not patches.unlike()


@pytest.mark.parametrize("profile", ["default", "job"])
def test_a_user_without_a_name_as_in_containers_gets_one_before_snakemake_asks(
    monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    file = Path(__file__).parents[2] / f"profiles/{profile}/config.yaml"
    exec(yaml.safe_load(file.read_text())["__definitions__"][0], {})
    assert getpass.getuser() == f"uid{os.getuid()}"
