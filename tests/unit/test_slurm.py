"""What a run on Slurm checks and asks for, and what the plugin is told of jobs it would wait for for ever."""

import asyncio
import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake.resources import Resource
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from projects import model_record, problems, write_record
from shardmark.plan.bundles import Bundle
from shardmark.workflow import slurm
from shardmark.workflow.job_names import described, is_of, naming, of_user
from shardmark.workflow.rule_inputs import Inputs
from shardmark.workflow.slurm import (
    LOST,
    RESOURCES,
    UNKNOWN,
    Answer,
    check_commands,
    check_memory,
    corrected,
    partition_problems,
    telling,
)

NO_ACCOUNTS = {"AccountingStorageType": "accounting_storage/none"}
ACCOUNTS = {"AccountingStorageType": "accounting_storage/slurmdbd"}


def told(*answers: dict[str, str] | None) -> list[dict[str, str] | None]:
    """What the plugin is told if the scheduler answers so."""
    waiting: Iterable[dict[str, str] | None] = iter(answers)

    async def query(command: str, logger: None) -> Answer:
        return next(iter(waiting)), 0.1

    asked = corrected(query)
    return [asyncio.run(asked("squeue", None))[0] for _ in answers]


def test_what_the_plugin_understands_is_passed_on() -> None:
    states = {"1": "RUNNING", "2": "PENDING"}
    ended = {"1": "COMPLETED", "2": "NODE_FAIL"}
    assert told(states, None, ended) == [states, None, ended]


def test_a_job_that_stays_preempted_is_lost_and_one_that_is_requeued_is_not() -> None:
    preempted = {"1": "PREEMPTED", "2": "PREEMPTED"}
    later = {"1": "PREEMPTED", "2": "PENDING"}
    assert told(preempted, later) == [preempted, {"1": LOST, "2": "PENDING"}]
    assert told(preempted, None, later)[-1] == {"1": LOST, "2": "PENDING"}


def test_a_job_that_is_forgotten_is_looked_after_once_that_is_sure() -> None:
    assert told({"1": "RUNNING"}, {}, {}, {"2": "RUNNING"}) == [
        {"1": "RUNNING"},
        {},
        {"1": UNKNOWN},
        {"1": UNKNOWN, "2": "RUNNING"},
    ]


def test_why_jobs_wait_is_said_once_if_it_is_not_for_others(caplog: pytest.LogCaptureFixture) -> None:
    late = "PartitionTimeLimit"
    waiting = {"1": "m:d:infer:abc Resources", "2": f"m:d:infer:abc {late}", "3": f"p_abc-12 {late}"}
    waiting["4"] = "other's QOSMaxJobsPerUserLimit"
    commands = []

    async def query(command: str, logger: logging.Logger) -> Answer:
        commands.append(command)
        return (waiting if "%r" in command else dict.fromkeys(waiting, "PENDING")), 0.1

    asked = telling(query)
    for command in (plugin.query_job_status_squeue("p_abc-12"), plugin.query_job_status_sacct("p_abc-12")):
        assert asyncio.run(asked(command, logging.getLogger()))[0] == dict.fromkeys(waiting, "PENDING")
    user = f"--user={os.getuid()}"
    assert commands[0] == f"squeue '--format=%i|%T' --states=all --noheader {user}"
    assert commands[1] == commands[3] == f"squeue {user} --noheader --states=PENDING '--format=%i|%j %r'"
    assert commands[2].startswith("sacct ")
    assert commands[2].endswith(user)
    assert caplog.messages == [f"in Slurm's queue (2 x): {late}; squeue --me --long shows them"]


def _part(rule: str, **wildcards: str) -> SimpleNamespace:
    resources = SimpleNamespace(get=lambda key, default=None: default)
    return SimpleNamespace(
        rule=SimpleNamespace(name=rule), wildcards=SimpleNamespace(**wildcards), resources=resources, threads=1
    )


def test_the_names_of_jobs_say_model_data_sets_and_rule() -> None:
    infer, other = (_part("infer", model="m@12", dataset=name, shard="1") for name in ("d", "e"))
    score = _part("score", model="m@12", dataset="d", task="3")
    assert described(SimpleNamespace(jobs=[score, infer, other])) == "m:d+e:infer"
    assert described(score) == "m:d:score"
    assert described(_part("tidy")) == "tidy"
    many = [_part("infer", model="m@12", dataset=f"data_set_{n}") for n in range(20)]
    assert len(described(SimpleNamespace(jobs=many))) < 80


def test_sbatch_is_given_the_name_and_the_plugin_finds_the_job_by_it() -> None:
    params = dict.fromkeys(("slurm_logfile", "comment_str", "account", "partition", "workdir"), "") | {
        "run_uuid": "p_abc-12"
    }
    command = naming(plugin.get_submit_command)(_part("score", model="m@1", dataset="d"), params)
    name = shlex.split(command)[3]
    assert name == "m:d:score:abc"
    assert is_of("p_abc-12", name)
    assert not is_of("p_abd-12", name)
    assert of_user("squeue --states=all --jobs 1,2") == ("", "squeue --states=all --jobs 1,2")


def test_sacct_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = "1|COMPLETED\n2|CANCELLED by 1000\n3|OUT_OF_MEMORY\n4|TIMEOUT\n5|PREEMPTED\n6|RUNNING\n7|NODE_FAIL\n"
    (tmp_path / "sacct").write_text(f"#!/bin/sh\ncat <<'END'\n{recorded}END\n")
    (tmp_path / "sacct").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = corrected(plugin.query_job_status)
    answers = [asyncio.run(asked(plugin.query_job_status_sacct("run"), logging.getLogger()))[0] for _ in range(2)]
    assert answers[0] == {
        **{"1": "COMPLETED", "2": "CANCELLED", "3": "OUT_OF_MEMORY", "4": "TIMEOUT"},
        **{"5": "PREEMPTED", "6": "RUNNING", "7": "NODE_FAIL"},
    }
    assert answers[1] == answers[0] | {"5": LOST}


@pytest.mark.parametrize(
    ("cluster", "command", "seconds"),
    [
        (NO_ACCOUNTS | {"MinJobAge": "300 sec"}, "squeue", 40),
        (NO_ACCOUNTS | {"MinJobAge": "120 sec"}, "squeue", 40),
        (NO_ACCOUNTS | {"MinJobAge": "0 sec"}, "squeue", 40),  # never forgotten
        (NO_ACCOUNTS, "squeue", 40),
        (ACCOUNTS | {"MinJobAge": "2 sec"}, "squeue", 40),
        (ACCOUNTS | {"MinJobAge": "2 sec"}, "sacct", 40),
        ({}, "squeue", 40),
    ],
)
def test_clusters_that_remember_need_no_setting(cluster: dict[str, str], command: str, seconds: int) -> None:
    check_memory(cluster, command, seconds)


@pytest.mark.parametrize("none", ["accounting_storage/none", "(null)"])
def test_a_cluster_that_forgets_says_what_to_set(none: str) -> None:
    cluster = {"AccountingStorageType": none, "MinJobAge": "60 sec"}
    (problem,) = problems(check_memory, cluster, "squeue", 40)
    assert (problem.key, problem.fix) == (
        "slurm-init-seconds-before-status-checks",
        "set it to 20: at most a third of MinJobAge",
    )
    (problem,) = problems(check_memory, cluster, "sacct", 40)
    assert (problem.key, problem.fix) == ("slurm-status-command", "set it to squeue")


def test_a_machine_without_slurm_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (problem,) = problems(check_commands)
    assert "sbatch is not installed" in problem.what


class _Executor(plugin.Executor):  # type: ignore[misc]
    """The plugin's, which has nothing to run in."""

    def __init__(self, logs: Path) -> None:
        self.slurm_logdir, self.logger, self._main_event_loop = logs, logging.getLogger("executor"), None
        self.run_uuid = "run"
        self.failed: list[str] = []

    def get_account_arg(self, job: object) -> Iterable[str]:
        raise ValueError("The given account nosuch appears to be invalid.")

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **context: object) -> None:
        self.failed.append(msg or "")


class _Group:
    """As much of Snakemake's group of jobs as the plugin needs; it has no rule."""

    name, groupid, wildcards, resources = "m-0", "m-0", [], SimpleNamespace()

    def is_group(self) -> bool:
        return True


def test_a_group_that_cannot_be_submitted_fails_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The plugin alone would wait for it for ever; Snakemake shows no reason of a group."""
    monkeypatch.setattr(slurm, "REFUSALS", Counter())
    monkeypatch.setattr(_Executor, "report_job_error", slurm.explaining(_Executor.report_job_error))
    executor = _Executor(tmp_path)
    submit = slurm.submitting(plugin.Executor.run_job)
    submit(executor, _Group())
    submit(executor, _Group())
    invalid = "The given account nosuch appears to be invalid."
    assert executor.failed == [invalid] * 2
    assert slurm.refusals() == [f"not submitted to Slurm (2 x): {invalid}"]
    assert f"m-0: {invalid}" in caplog.messages


def test_what_sbatch_says_is_told_without_its_command_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slurm, "REFUSALS", Counter())
    said = "sbatch: error: invalid partition specified: nosuch\nsbatch: error: Batch job submission failed"
    message = f"SLURM sbatch failed. The error message was '{said}'.\n    sbatch call:\n        sbatch --wrap=..."
    report = slurm.explaining(lambda executor, job_info, msg: None)
    report(SimpleNamespace(logger=logging.getLogger("executor")), SubmittedJobInfo(_Group()), message)
    assert caplog.messages == ["m-0: " + said.replace("\n", " ")]
    assert slurm.refusals() == [f"not submitted to Slurm (1 x): {said}".replace("\n", " ")]


# What jobs ask for


def expressions(given: dict[str, str]) -> dict[str, Resource]:
    """A profile's default-resources as Snakemake reads them: Python expressions."""
    return {name: Resource.from_cli_expression(name, text) for name, text in given.items()}


def test_jobs_ask_for_what_the_profile_says_where_the_model_says_nothing(tmp_path: Path) -> None:
    """Snakemake reads default-resources as Python expressions, which become texts only within a rule."""
    own = {"partition": None, "account": "mine", "qos": None, "constraint": None, "extra": None}
    write_record(tmp_path / "models/m@0.json", model_record(slurm=own))
    given = {"slurm_partition": "gpu", "slurm_account": "lab", "constraint": "a100|h100", "slurm_extra": "'--nice=7'"}
    inputs = Inputs(str(tmp_path), {}, defaults=expressions(given))
    wildcards = SimpleNamespace(model="m@0")
    context = {"input": [], "attempt": 1, "threads": 2, "rulename": "infer", "async_run": None}
    asked = {name: Resource(name, inputs.slurm(name)).evaluate(wildcards, **context).value for name in RESOURCES}
    assert asked == given | {"slurm_account": "mine", "qos": None, "slurm_extra": "--nice=7"}


def test_scoring_asks_for_what_inference_asks_for_only_where_they_share_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake stops a run whose group has two partitions, accounts, ..."""
    own = {"partition": "a100", "account": None, "qos": None, "constraint": None, "extra": None}
    write_record(tmp_path / "models/m@0.json", model_record(slurm=own))
    given = {"slurm_partition": "cpu", "slurm_account": "lab", "qos": "normal"}
    overrides = {"qos": Resource("qos", "high")}  # --set-resources infer:qos=high
    inputs = Inputs(str(tmp_path), {}, defaults=expressions(given), overrides=overrides)
    wildcards = SimpleNamespace(model="m@0")
    context = {"input": [], "attempt": 1, "threads": 1, "rulename": "score", "async_run": None}

    def asked() -> dict[str, str]:
        return {name: Resource(name, inputs.score_slurm(name)).evaluate(wildcards, **context).value for name in given}

    monkeypatch.setattr(inputs, "score_group", lambda wildcards: "m@0-0")
    assert asked() == {"slurm_partition": "a100", "slurm_account": "lab", "qos": "high"}
    monkeypatch.setattr(inputs, "score_group", lambda wildcards: None)
    assert asked() == given


def test_scoring_by_itself_is_paid_by_the_models_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"partition": "a100", "account": "mine", "qos": "high", "constraint": None, "extra": None}
    write_record(tmp_path / "models/m@0.json", model_record(slurm=own))
    inputs = Inputs(str(tmp_path), {}, defaults=expressions({"slurm_partition": "cpu", "slurm_account": "lab"}))
    monkeypatch.setattr(inputs, "score_group", lambda wildcards: None)
    context = {"input": [], "attempt": 1, "threads": 1, "rulename": "score", "async_run": None}
    wildcards = SimpleNamespace(model="m@0")
    asked = [inputs.score_slurm(key)(wildcards, **context) for key in ("slurm_account", "slurm_partition", "qos")]
    assert asked == ["mine", "cpu", None]


@pytest.mark.parametrize("answers", [True, False])
def test_partitions_that_are_not_there_are_told_where_sinfo_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho gpu\necho cpu\n" if answers else "#!/bin/sh\nexit 1\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wanted = [("m.yaml", "slurm.partition", "gpus,cpu"), ("n.yaml", "slurm.partition", "gpu"), ("p", "d", "odd")]
    found = partition_problems(wanted)
    assert [(each.where, each.what) for each in found] == (
        [("m.yaml", "this cluster has no partition 'gpus'"), ("p", "this cluster has no partition 'odd'")] * answers
    )
    assert all("gpu" in each.fix for each in found)


def test_where_there_is_no_slurm_partitions_are_not_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert partition_problems([("m.yaml", "slurm.partition", "gpus")]) == []


def test_time_and_memory_of_the_profile_are_the_least_that_jobs_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"runtime": "2h", "mem_mb": "9000"}
    context = {"input": [], "threads": 1, "rulename": "infer", "async_run": None}
    shard = ("m@0", "d", "1")
    job, next_job = (SimpleNamespace(model="m@0", dataset="d", shard=name) for name in "12")
    for own, asked in (((None, None), (120, 18000)), ((30, 2000), (60, 4000))):
        record = model_record(slurm={"runtime": own[0], "mem_mb": own[1]})
        write_record(tmp_path / "models/m@0.json", record)
        bundle = Bundle(record, 0, [shard, ("m@0", "d", "2")])
        inputs = Inputs(str(tmp_path), {}, bundles=[bundle], defaults=expressions(given))
        found = (inputs.minutes(job, attempt=2, **context), inputs.memory_mb(job, attempt=2, **context))
        assert found == asked
        monkeypatch.setattr(inputs, "score_group", lambda wildcards: "m@0-0")
        rest = (inputs.minutes(next_job, attempt=2, **context), inputs.score_minutes(next_job, attempt=2, **context))
        assert rest == (0, 0)  # times of a group add up
