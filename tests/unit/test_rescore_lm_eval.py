"""Scoring lm-eval's tasks anew without their files, their rows and their code; and documents chosen by number."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import made_up_answers
from projects import change_yaml, plan, problems, write_model, write_rows, write_yaml
from shardmark import layout
from shardmark.files import read_json, read_sealed
from shardmark.plan import lm_eval
from shardmark.plan.plan import Plan
from shardmark.plan.summary import limit_lines, rescore_lines
from shardmark.tasks.lm_eval.files import _parsed

CHOICE = {
    "dataset_path": "some/data",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": ["yes", "no"],
    "doc_to_target": "label",
}
WRITTEN = {
    "task": "written",
    "dataset_path": "some/data",
    "test_split": "test",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{label}}",
    "metric_list": [{"metric": "exact_match"}],
}
OWN = "def judge(doc, results):\n    return {'own': float(results[0].strip() == str(doc['label']))}\n"
NAMES = ["lm_eval:choice_*", "lm_eval:both", "lm_eval:written", "lm_eval:coded"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks by a glob and in a group, one that generates, and one with code; a model has not answered yet."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path, "tiny")
    for name in ("choice_a", "choice_b"):
        write_yaml(tmp_path / f"tasks/{name}.yaml", CHOICE | {"task": name})
    aggregates = [{"metric": "acc", "weight_by_size": True}]
    group = {"group": "both", "task": ["choice_a", "choice_b"], "aggregate_metric_list": aggregates}
    write_yaml(tmp_path / "tasks/both.yaml", group)
    write_yaml(tmp_path / "tasks/written.yaml", WRITTEN)
    (tmp_path / "tasks/coded.yaml").write_text(
        "include: written.yaml\ntask: coded\nprocess_results: !function own.judge\n"
    )
    (tmp_path / "tasks/own.py").write_text(OWN)
    write_rows(tmp_path / "data/rows.jsonl", [{"q": f"{n}?", "label": n % 2} for n in range(6)])
    write_yaml(tmp_path / "config/lm_eval/data.yaml", {"some/data": "rows.jsonl"})
    return tmp_path


def planned(root: Path, **config: Any) -> Plan:
    usual = {"datasets": NAMES, "lm_eval_path": "tasks", "lm_eval_code": True, "data_root": "data"}
    return plan(root, **{**usual, **config})


def change_task(root: Path, **keys: Any) -> None:
    """Change a task's file, which a process reads once."""
    change_yaml(root / "tasks/written.yaml", **keys)
    _parsed.cache_clear()


def scores(made: Plan) -> dict[str, Any]:
    """The metrics and the description of each scored data set."""
    files = [
        layout.SCORES.file(made.results, model=p.model.full_name, dataset=p.dataset.name, task=p.dataset.digest)
        for p in made.pairs
        if p.scored
    ]
    return {file.name: {key: read_json(file)[key] for key in ("metrics", "dataset")} for file in files}


def facts(made: Plan) -> dict[str, Any]:
    return dict(read_sealed(layout.REPORT_INPUTS.file(made.results, report=made.report.name))["facts"])


def test_what_is_scored_is_reported_though_tasks_and_rows_are_gone(root: Path) -> None:
    made_up_answers.finish(planned(root), made_up_answers.guesses)
    before, locked = scores(planned(root)), (root / "config/benchmark.lock").read_bytes()
    assert sorted(name.partition("@")[0] for name in before) == [
        *("lm_eval.both", "lm_eval.choice_a", "lm_eval.choice_b", "lm_eval.coded", "lm_eval.written")
    ]
    for folder in ("weights", "data", "tasks"):
        shutil.rmtree(root / folder)
    assert problems(planned, root)
    after = planned(root, rescore=True)
    assert scores(after) == before
    assert not after.gaps
    assert "cannot be read any more: lm_eval.both, lm_eval.choice_a" in facts(after)["Rescored"]
    assert any("no folder tasks" in warning.what for warning in after.warnings)
    assert (root / "config/benchmark.lock").read_bytes() == locked


def test_answers_are_scored_by_recorded_rules_and_what_needs_code_that_is_gone_is_named(root: Path) -> None:
    made_up_answers.finish(planned(root), made_up_answers.guesses)
    before = scores(planned(root))
    for kind in layout.SCORED:
        for file in kind.found(root / "results"):
            file.unlink()
    shutil.rmtree(root / "tasks")
    made = planned(root, rescore=True)
    (gap,) = made.gaps
    assert gap.dataset.name == "lm_eval.coded"
    assert (
        gap.reason == "its answers are there, but scoring needs code of its task: " + f"there is no {root}/tasks/own.py"
    )
    assert any("lm_eval.coded: its answers are there" in line for line in rescore_lines(made))
    assert [(pair.scored, pair.missing) for pair in made.pairs] == [(False, [])] * 4
    made_up_answers.finish(made)
    after = scores(planned(root, rescore=True))
    assert after == {name: before[name] for name in before if "coded" not in name}


def test_a_name_stands_for_what_it_stood_for_in_the_latest_plan(root: Path) -> None:
    tag = {"datasets": ["lm_eval:choice_*"]}
    made_up_answers.finish(planned(root, **tag), made_up_answers.guesses)
    (root / "tasks/both.yaml").unlink()
    (root / "tasks/choice_a.yaml").rename(root / "tasks/choice_c.yaml")
    change_yaml(root / "tasks/choice_c.yaml", task="choice_c")
    made_up_answers.finish(planned(root, **tag, lm_eval_code=False), made_up_answers.guesses)
    shutil.rmtree(root / "tasks")
    made = planned(root, **tag, rescore=True)
    assert {pair.dataset.name for pair in made.pairs} == {"lm_eval.choice_b", "lm_eval.choice_c"}


def test_each_of_two_names_for_a_task_stands_for_it_alone(root: Path) -> None:
    made_up_answers.finish(planned(root, datasets=["lm_eval:choice_*", "lm_eval:choice_a"]), made_up_answers.guesses)
    shutil.rmtree(root / "tasks")
    made = planned(root, datasets=["lm_eval:choice_*"], rescore=True)
    assert {pair.dataset.name for pair in made.pairs} == {"lm_eval.choice_a", "lm_eval.choice_b"}


def test_scores_by_older_code_are_made_again_though_their_task_is_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"datasets": ["lm_eval:written", "lm_eval:coded"]}
    made_up_answers.finish(planned(root, **names))
    monkeypatch.setattr(lm_eval, "LM_EVAL", lm_eval.LM_EVAL + 1)
    expected = planned(root, **names)
    for file in ("written", "coded"):
        (root / f"tasks/{file}.yaml").unlink()
    made = planned(root, **names, rescore=True)
    assert [(pair.scored, pair.missing) for pair in made.pairs] == [(False, [])] * 2
    assert [each.digest for each in made.datasets] == [each.digest for each in expected.datasets]
    made_up_answers.finish(made)
    assert all(pair.scored for pair in planned(root, **names, rescore=True).pairs)
    monkeypatch.setattr(lm_eval, "LM_EVAL", lm_eval.LM_EVAL + 2)
    (root / "tasks/own.py").unlink()
    (gap,) = planned(root, **names, rescore=True).gaps
    assert gap.dataset.name == "lm_eval.coded", "its score is an older one, and no other can be made"


def test_code_that_has_changed_or_is_not_allowed_scores_nothing(root: Path) -> None:
    made_up_answers.finish(planned(root, datasets=["lm_eval:coded", "lm_eval:written"]))
    for file in layout.SCORES.found(root / "results"):
        file.unlink()
    (root / "tasks/coded.yaml").unlink()
    names = {"datasets": ["lm_eval:coded", "lm_eval:written"], "rescore": True}
    assert {pair.dataset.name for pair in planned(root, **names).pairs} == {"lm_eval.coded", "lm_eval.written"}
    (refused,) = planned(root, **names, lm_eval_code=False).gaps
    assert "unless you allow it" in refused.reason
    (root / "tasks/own.py").write_text(OWN + "# changed\n")
    (changed,) = planned(root, **names).gaps
    assert changed.reason.endswith("tasks/own.py has changed")


def test_other_metrics_are_scored_from_the_answers_though_rows_are_gone(root: Path) -> None:
    names = {"datasets": ["lm_eval:written"]}
    made_up_answers.finish(planned(root, **names))
    metrics = [{"metric": "exact_match", "ignore_case": True}, {"metric": "bleu"}]
    change_task(root, metric_list=metrics)
    shutil.rmtree(root / "data")
    made = planned(root, **names, rescore=True)
    assert [(pair.scored, pair.missing) for pair in made.pairs] == [(False, [])]
    made_up_answers.finish(made)
    (found,) = scores(planned(root, **names, rescore=True)).values()
    assert [*found["metrics"]] == ["exact_match", "bleu"]


@pytest.mark.parametrize("change", [{"doc_to_text": "{{q}}!"}, {"num_fewshot": 1}, {"test_split": "train"}])
def test_a_task_that_asks_something_else_is_refused(root: Path, change: dict[str, Any]) -> None:
    names = {"datasets": ["lm_eval:written"]}
    made_up_answers.finish(planned(root, **names))
    change_task(root, **change)
    shutil.rmtree(root / "data")
    found = problems(planned, root, **names, rescore=True)
    assert any("no record of it by an earlier run of this configuration" in problem.what for problem in found)


@pytest.mark.parametrize("change", [{"limit": 3}, {"num_fewshot": 2}, {"gen_kwargs": {"max_gen_toks": 9}}, {"lock": 0}])
def test_without_its_task_a_name_stands_for_what_this_configuration_and_the_lock_say(
    root: Path, change: dict[str, Any]
) -> None:
    names = {"datasets": ["lm_eval:written"]}
    made_up_answers.finish(planned(root, **names))
    lock = root / "config/benchmark.lock"
    if "lock" in change:
        (sha256,) = json.loads(lock.read_text())["datasets"]["lm_eval.written"]["data_root"]["files"].values()
        lock.write_text(lock.read_text().replace(sha256, "0" * 64))
    shutil.rmtree(root / "tasks")
    found = problems(planned, root, **names, **{key: change[key] for key in change if key != "lock"}, rescore=True)
    assert any("by an earlier run of this configuration" in problem.what for problem in found)


def test_documents_chosen_by_number_are_asked_alone_and_their_scores_say_so(root: Path) -> None:
    write_yaml(root / "config/datasets/some.yaml", {"lm_eval": "both", "samples": {"choice_b": [4, 1, 1]}})
    write_yaml(root / "config/datasets/one.yaml", {"lm_eval": "choice_a", "samples": {"choice_a": [5, 0]}})
    made = planned(root, datasets=["some", "one", "lm_eval:choice_a"])
    words = {"some": "only rows 1, 4 of choice_b: 8 of 12 rows", "one": "only rows 0, 5 of choice_a: 2 of 6 rows"}
    assert limit_lines(made) == [f"only in part: {name}: {said}" for name, said in words.items()]
    assert len({dataset.digest for dataset in made.datasets}) == 3
    made_up_answers.finish(made, made_up_answers.guesses)
    for pair in made.pairs:
        place = {"model": pair.model.full_name, "dataset": pair.dataset.name, "task": pair.dataset.digest}
        lines = layout.SAMPLES.file(made.results, **place).read_text().splitlines()
        asked = [json.loads(line)["sample"] for line in lines]
        every = [str(n) for n in range(6)]
        chosen = {"one": ["0", "5"], "some": [*(f"choice_a/{n}" for n in every), "choice_b/1", "choice_b/4"]}
        assert asked == chosen.get(pair.dataset.name, every)
        told = read_json(layout.SCORES.file(made.results, **place))["dataset"].get("limit", {})
        assert bool(told) == (pair.dataset.name in chosen)


@pytest.mark.parametrize(
    ("samples", "run", "key", "what"),
    [
        ({"choice_x": [0]}, {}, "samples.choice_x", "choice_a has no task 'choice_x'"),
        ({"choice_a": [2, 6]}, {}, "samples.choice_a", "there is no document 6: choice_a has 6, numbered from 0"),
        ({"choice_a": [2]}, {"limit": 2}, "samples", "the run has a limit, too: lm-eval takes one or the other"),
        ({"choice_a": []}, {}, "samples.choice_a", "at least 1 item"),
    ],
)
def test_wrong_choices_are_refused(root: Path, samples: Any, run: Any, key: str, what: str) -> None:
    write_yaml(root / "config/datasets/one.yaml", {"lm_eval": "choice_a", "samples": samples})
    (problem,) = problems(planned, root, datasets=["one"], **run)
    assert (problem.where.partition(":")[0], problem.key) == ("config/datasets/one.yaml", key)
    assert what in problem.what
