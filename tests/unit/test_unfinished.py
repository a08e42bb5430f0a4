"""What a run that failed has no scores of, and why; what its report is made of."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.exceptions import WorkflowError

import made_up_answers
from projects import plan, write_dataset, write_model
from shardmark import layout
from shardmark.files import read_json
from shardmark.plan.plan import Plan
from shardmark.workflow.completeness import check_targets, missing_targets
from shardmark.workflow.unfinished import gaps, plan_unfinished, publish_unfinished

STAMP = "2026-11-28 10:00:00,000"


@pytest.fixture
def run(tmp_path: Path) -> Plan:
    """The plan of two models on a data set, of which one has been scored."""
    for name in ("good", "bad"):
        write_model(tmp_path, name)
    write_dataset(tmp_path, "sums")
    made = plan(tmp_path)
    pair = next(pair for pair in made.pairs if pair.model.name == "good")
    for shard in pair.missing:
        made_up_answers.answer(made, pair, shard.name)
    made_up_answers.score(made, pair)
    return made


def log(run: Plan, step: str, text: str) -> str:
    """Write the log of a step of the model that is not scored."""
    (pair,) = [pair for pair in run.pairs if pair.model.name == "bad"]
    model, data = pair.model.full_name, pair.dataset
    place = {
        "stage_model": model,
        "infer": f"{model}/{data.name}/{pair.missing[0].name}",
        "score": f"{model}/{data.full_name}",
    }[step]
    path = run.results / "logs" / step / f"{place}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_what_has_run_without_a_result_has_failed_and_its_log_says_why(run: Plan) -> None:
    path = log(run, "stage_model", f"{STAMP} ERROR root: m.yaml: path: is gone\n    fix: bring it back\n")
    (gap,) = gaps(run, 0.0)
    assert (gap.model.name, gap.dataset.name, gap.status, gap.log) == ("bad", "sums", "failed", path)
    assert gap.reason == "the model is not staged: m.yaml: path: is gone fix: bring it back"
    log(run, "stage_model", f"{STAMP} ERROR root: failed\nTraceback (most recent call last):\n  ...\nValueError: why\n")
    assert gaps(run, 0.0)[0].reason == "the model is not staged: ValueError: why"


def test_a_log_of_an_earlier_run_says_nothing_of_this_one(run: Plan) -> None:
    log(run, "stage_model", "failed long ago")
    (gap,) = gaps(run, 1e12)
    assert (gap.status, gap.log) == ("not run", "")
    assert gap.reason == "the model is not staged, but no job for it has written a log"


def test_only_what_is_still_to_be_done_is_looked_at(run: Plan) -> None:
    (pair,) = [pair for pair in run.pairs if pair.model.name == "bad"]
    staged = run.results / f"staged/{pair.model.full_name}.json"
    log(run, "stage_model", "staged well")
    staged.parent.mkdir(parents=True)
    staged.touch()
    path = log(run, "infer", "memory has run out\n" * 100)
    (gap,) = gaps(run, 0.0)
    assert gap.reason.startswith("no answers of 1 of 1 shards: memory has run out")
    assert (gap.log, len(gap.reason) <= 300) == (path, True)
    for shard in pair.missing:
        made_up_answers.answer(run, pair, shard.name)
    staged.unlink()  # no matter any more
    log(run, "score", "no such metric")
    assert gaps(run, 0.0)[0].reason == "the answers are not scored: no such metric"


def test_a_report_of_a_part_is_another_than_the_whole_one_and_than_that_of_another_part(run: Plan) -> None:
    log(run, "stage_model", "gone")
    folder = plan_unfinished(run, 0.0)
    assert folder.name != run.report.name
    made_of = read_json(layout.REPORT_INPUTS.file(run.results, report=folder.name))
    assert [len(made_of[kind]) for kind in ("scores", "samples", "timings", "gaps")] == [1, 1, 1, 1]
    assert plan_unfinished(run, 0.0) == folder
    log(run, "stage_model", "gone for another reason")
    assert plan_unfinished(run, 0.0) != folder


def workflow(rules: tuple[str, ...] = ("report",), **scheduler: Any) -> Any:
    """What is asked of Snakemake's workflow."""
    jobs = [SimpleNamespace(rule=SimpleNamespace(name=name), conda_env=None) for name in rules]
    dag = SimpleNamespace(needrun_jobs=lambda exclude_finished: jobs)
    ended = SimpleNamespace(**{"running": set(), "_user_kill": None} | scheduler)
    return SimpleNamespace(dag=dag, scheduler=ended, deployment_settings=None)


@pytest.mark.parametrize(
    "ended", [workflow(running={"a job"}), workflow(_user_kill="graceful"), workflow(rules=("infer", "score"))]
)
def test_an_interrupted_run_and_one_without_a_report_publish_nothing(run: Plan, ended: Any) -> None:
    publish_unfinished(run, 0.0, ended, "false")
    assert not run.published.is_symlink()


def test_a_report_that_cannot_be_made_is_told_and_nothing_is_published(
    run: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    publish_unfinished(run, 0.0, workflow(), "false")
    assert "no report of the existing results could be made" in capsys.readouterr().err
    assert not run.published.is_symlink()


def test_a_run_without_any_score_publishes_nothing(tmp_path: Path) -> None:
    write_model(tmp_path, "bad")
    write_dataset(tmp_path, "sums")
    publish_unfinished(plan(tmp_path), 0.0, workflow(), "false")
    assert not (tmp_path / "results/reports").exists()


def test_the_targets_of_a_run_are_the_inputs_of_all_and_the_outputs_of_other_jobs(tmp_path: Path) -> None:
    (there := tmp_path / "there").touch()
    gone = [str(tmp_path / name) for name in "abc"]
    every = SimpleNamespace(rule=SimpleNamespace(norun=True), input=[str(there), *gone[:2]], output=[])
    one = SimpleNamespace(rule=SimpleNamespace(norun=False), input=["no matter"], output=[gone[2]])
    assert missing_targets(SimpleNamespace(targetjobs={id(job): job for job in (every, one)}.values())) == gone
    with pytest.raises(WorkflowError, match="3 files that this run should have made are missing"):
        check_targets(gone)
    check_targets([])
