"""Scoring anew without weights, rows and the Hub: from records, task files and the lock, and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import made_up_answers
from projects import GENERATE, change_yaml, plan, problems, write_dataset, write_model, write_rows
from shardmark import layout
from shardmark.files import read_json, read_sealed
from shardmark.plan.plan import Plan
from shardmark.plan.summary import rescore_lines

GROUPED = [{"question": f"{n} + 1?", "answer": str(n % 2), "kind": "even" if n % 2 == 0 else "odd"} for n in range(6)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose one model has answered and been scored."""
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums", GROUPED, **GENERATE)
    made_up_answers.finish(plan(tmp_path))
    return tmp_path


def lose_everything(root: Path) -> None:
    shutil.rmtree(root / "weights")
    shutil.rmtree(root / "data")


def score_of(made: Plan) -> dict[str, Any]:
    (pair,) = made.pairs
    place = {"model": pair.model.full_name, "dataset": pair.dataset.name, "task": pair.dataset.digest}
    return dict(read_json(layout.SCORES.file(made.results, **place)))


def test_what_is_scored_is_reported_though_weights_and_rows_are_gone(root: Path) -> None:
    before = plan(root)
    lose_everything(root)
    assert problems(plan, root)
    after = plan(root, rescore=True)
    assert [(p.model.digest, p.dataset.digest, p.scored) for p in after.pairs] == [
        (p.model.digest, p.dataset.digest, True) for p in before.pairs
    ]
    assert (
        "nothing was inferred"
        in read_sealed(layout.REPORT_INPUTS.file(after.results, report=after.report.name))["facts"]["Rescored"]
    )


def test_other_metrics_filters_and_groups_are_scored_from_the_answers(root: Path) -> None:
    path = root / "config/datasets/sums.yaml"
    change_yaml(path, filters=[{"name": "map", "values": {"1": "0"}}], metrics=["exact_match"], group_by="kind")
    expected = plan(root)
    made_up_answers.score(expected, expected.pairs[0])
    with_rows = score_of(expected)
    for file in [path for kind in layout.SCORED for path in kind.found(root / "results")]:
        file.unlink()
    for file in (root / "results/tasks").glob(f"sums@{expected.datasets[0].digest}*"):
        file.unlink()
    for file in (root / "results/plans/datasets").glob("*"):
        if expected.datasets[0].digest in file.read_text():
            file.unlink()
    lose_everything(root)
    made = plan(root, rescore=True)
    assert (made.pairs[0].scored, made.pairs[0].missing) == (False, [])
    made_up_answers.score(made, made.pairs[0])
    without = score_of(made)
    assert without["dataset"] == with_rows["dataset"]
    assert without["metrics"] == with_rows["metrics"]


def test_scores_by_an_older_metric_are_made_again_from_the_answers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_everything(root)
    assert plan(root, rescore=True).pairs[0].scored
    (metric,) = plan(root, rescore=True).benchmark.datasets[0].settings.metrics
    monkeypatch.setattr(type(metric), "protocol", metric.protocol + 1)
    (pair,) = plan(root, rescore=True).pairs
    assert (pair.scored, pair.missing) == (False, [])


@pytest.mark.parametrize("change", [{"prompt": "{{ question }}"}, {"target": "kind"}, {"where": "true"}])
def test_a_data_set_that_asks_something_else_is_refused(root: Path, change: dict[str, Any]) -> None:
    lose_everything(root)
    change_yaml(root / "config/datasets/sums.yaml", **change)
    (problem,) = problems(plan, root, rescore=True)
    assert problem.where == "config/datasets/sums.yaml"
    assert "there is no record of it by an earlier run of this configuration" in problem.what


def test_a_model_with_other_settings_has_no_record(root: Path) -> None:
    lose_everything(root)
    change_yaml(root / "config/models/tiny.yaml", dtype="bfloat16")
    (problem,) = problems(plan, root, rescore=True)
    assert (problem.where, problem.key) == ("config/models/tiny.yaml", "path")
    assert "no record of it by an earlier run" in problem.what


def test_what_the_lock_names_goes_before_what_is_newer(root: Path) -> None:
    locked = (root / "config/benchmark.lock").read_bytes()
    first = plan(root)
    write_rows(root / "data/sums.jsonl", GROUPED[:3])
    (root / "weights/tiny/config.json").write_text('{"model_type": "other"}')
    made_up_answers.finish(plan(root))
    (root / "config/benchmark.lock").write_bytes(locked)
    lose_everything(root)
    after = plan(root, rescore=True)
    assert (after.models[0].digest, after.datasets[0].digest) == (first.models[0].digest, first.datasets[0].digest)
    assert (root / "config/benchmark.lock").read_bytes() == locked


def test_answers_that_are_missing_are_gaps_and_nothing_is_inferred(root: Path) -> None:
    write_model(root, "other")
    made = plan(root, rescore=True)
    (gap,) = made.gaps
    assert (gap.model.name, gap.dataset.name, gap.status) == ("other", "sums", "not run")
    assert gap.reason == "no answers to 6 of 6 requests, and rescore infers nothing"
    assert {pair.model.name for pair in made.pairs} == {"tiny"}
    assert all("other" not in target for target in made.targets())
    assert any("other on sums" in line for line in rescore_lines(made))
    written = read_sealed(layout.REPORT_INPUTS.file(made.results, report=made.report.name))
    assert [one["model"]["name"] for one in written["gaps"]] == ["other"]


def test_a_folder_without_answers_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums")
    (problem,) = problems(plan, tmp_path, rescore=True)
    assert (problem.key, "no model has answered" in problem.what) == ("rescore", True)


def test_a_chat_template_that_is_gone_is_known_from_the_lock(tmp_path: Path) -> None:
    write_model(tmp_path, "tiny", apply_chat_template="auto")
    (tmp_path / "weights/tiny/chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    write_dataset(tmp_path, "sums", **GENERATE)
    before = plan(tmp_path)
    assert before.datasets[0].is_chat
    made_up_answers.finish(before)
    lose_everything(tmp_path)
    after = plan(tmp_path, rescore=True)
    assert after.datasets[0].digest == before.datasets[0].digest
