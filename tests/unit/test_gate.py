"""A policy passes, fails, or cannot be decided; what is not there never passes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from finished_runs import CHOICE, COLOURS, finished_run
from made_up_answers import finish, guesses
from projects import plan, problems, write_dataset, write_yaml
from shardmark.config.gate import GateConfig
from shardmark.export.finished import Finished, read_finished
from shardmark.records.gap import Gap, Name
from shardmark.records.score import SoFar
from shardmark.report.groups import Group
from shardmark.report.results import Results, read_results
from shardmark.tools.gate import Check, Gate, Verdict, judge, read_policy, write_verdict
from unit.report.fake_results import write_results
from workflow import ROOT


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Models of which demo_large is the best, demo_base about as good, and demo_tiny far worse."""
    return read_results(*write_results(tmp_path_factory.mktemp("results"), n=120))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("run"))


def check(results: Results, **policy: Any) -> list[Check]:
    finished = Finished("demo", Path("demo@1"), Path("."), results)
    return list(Gate(finished, GateConfig.model_validate(policy), "policy.yaml").checks())


def statuses(results: Results, **policy: Any) -> dict[tuple[str, str], str]:
    return {(each.model, each.dataset): each.status for each in check(results, **policy)}


def against(model: str, **more: Any) -> dict[str, Any]:
    return {"loss": [{"baseline": {"model": model}, "datasets": ["demo_arithmetic", "demo_capitals"], **more}]}


def test_a_significant_loss_fails_and_any_other_difference_passes(results: Results) -> None:
    assert statuses(results, **against("demo_large", models=["demo_tiny", "demo_base"])) == {
        ("demo_base", "demo_arithmetic"): "pass",
        ("demo_base", "demo_capitals"): "pass",
        ("demo_tiny", "demo_arithmetic"): "fail",
        ("demo_tiny", "demo_capitals"): "fail",
    }
    assert set(statuses(results, **against("demo_tiny")).values()) == {"pass"}


def test_what_is_lower_for_the_better_is_lost_when_it_rises(results: Results) -> None:
    pairs = {
        key: replace_main(pair, higher_is_better=False)
        for key, pair in results.pairs.items()
        if key[1] == "demo_capitals"
    }
    found = check(Results(pairs), loss=[{"baseline": {"model": "demo_tiny"}}])
    assert {each.status for each in found} == {"fail"}
    (wins, losses), *_ = [map(int, re.findall(r"(\d+) (?:wins|losses)", each.why)) for each in found]
    assert wins < losses


def test_a_baseline_that_was_asked_in_another_way_is_named(results: Results) -> None:
    pairs = dict(results.pairs)
    pair = pairs["demo_base", "demo_arithmetic"]
    asked = replace(pair.scores.dataset, is_chat=True, digest="in chats")
    pairs["demo_base", "demo_arithmetic"] = type(pair)(replace(pair.scores, dataset=asked), pair.samples)
    policy = against("demo_large", models=["demo_base"])
    found = {each.dataset: each for each in check(Results(pairs), **policy)}
    assert found["demo_arithmetic"].status == "undecided"
    assert found["demo_arithmetic"].why == "no baseline: it was asked in chats, demo_large as text"


def replace_main(pair: Any, **changes: Any) -> Any:
    scores = pair.scores
    metrics = {scores.primary: replace(scores.main, **changes)}
    return type(pair)(replace(scores, metrics=metrics), pair.samples, pair.timings)


def test_a_loss_without_an_error_bar_is_undecided(results: Results) -> None:
    pairs = {}
    for key, pair in results.pairs.items():
        bare = replace_main(pair, stderr=None, ci95=None)
        pairs[key] = type(pair)(bare.scores, None, bare.timings)
    assert statuses(Results(pairs), **against("demo_large", models=["demo_tiny"])) == {
        ("demo_tiny", "demo_arithmetic"): "undecided",
        ("demo_tiny", "demo_capitals"): "undecided",
    }


def test_losses_are_corrected_for_all_comparisons_of_a_rule(results: Results) -> None:
    (one,) = check(results, **against("demo_large", models=["demo_base"], datasets=["demo_capitals"]))
    many = check(results, **against("demo_large"))
    (same,) = [each for each in many if (each.model, each.dataset) == ("demo_base", "demo_capitals")]
    p = [float(each.why.partition("p = ")[2].split()[0]) for each in (one, same)]
    assert p[1] >= p[0]


def test_too_few_samples_to_show_a_loss_are_undecided_if_the_rule_says_so(results: Results) -> None:
    found = statuses(results, **against("demo_large", models=["demo_base"], shows=0.001))
    assert set(found.values()) == {"undecided"}
    assert set(statuses(results, **against("demo_large", models=["demo_base"], shows=1.0)).values()) == {"pass"}


def test_scores_have_bounds_of_values_or_of_intervals(results: Results) -> None:
    main = results.pairs["demo_large", "demo_capitals"].scores.main
    assert main.value is not None
    assert main.ci95 is not None
    place = {"models": ["demo_large"], "datasets": ["demo_capitals"]}
    for bound, surely, status in [
        (main.value - 0.001, False, "pass"),
        (main.value + 0.001, False, "fail"),
        (main.value - 0.001, True, "fail"),
        ((main.ci95[0] or 0) - 0.001, True, "pass"),
    ]:
        assert list(statuses(results, scores=[place | {"at_least": bound, "surely": surely}]).values()) == [status]


def test_a_score_that_is_missing_is_undecided(results: Results) -> None:
    found = check(results, scores=[{"datasets": ["demo_reading_comprehension"], "at_least": 0.0}])
    assert {each.model: each.status for each in found} == {
        "demo_large": "pass",
        "demo_base": "pass",
        "demo_tiny": "undecided",
    }
    assert [each.why for each in found if each.status == "undecided"] == ["no score: it was not run"]
    rule = {"baseline": {"model": "demo_large"}, "datasets": ["demo_reading_comprehension"]}
    assert statuses(results, loss=[rule])["demo_tiny", "demo_reading_comprehension"] == "undecided"


def test_a_result_that_a_failed_run_lacks_is_undecided_whatever_the_rules_are_about(results: Results) -> None:
    names = {"model": Name(name="demo_tiny", digest="0"), "dataset": Name(name="other", digest="1")}
    lacking = Results(results.pairs, (), (Gap(**names, status="failed", reason="out of memory"),))
    rule = {"models": ["demo_large"], "datasets": ["demo_capitals"], "at_least": 0.0}
    assert statuses(lacking, scores=[rule])["demo_tiny", "other"] == "undecided"
    assert set(statuses(lacking, scores=[rule], complete=False).values()) == {"pass"}


def test_a_score_of_a_part_is_undecided(results: Results) -> None:
    key = ("demo_large", "demo_capitals")
    pair = results.pairs[key]
    so_far = SoFar(shards=2, of_shards=8, samples=30, of=116)
    part = type(pair)(replace(pair.scores, counts=replace(pair.scores.counts, so_far=so_far)), pair.samples)
    (found,) = check(Results({key: part}), scores=[{"at_least": 0.0}])
    assert (found.status, "so far 30 of 116" in found.why) == ("undecided", True)


def test_unanswered_and_cut_answers_have_bounds(results: Results) -> None:
    pair = results.pairs["demo_large", "demo_arithmetic"]
    lines = [json.loads(line) for line in pair.samples.read_text().splitlines()] if pair.samples else []
    cut = sum(line.get("end") == "length" for line in lines) / len(lines)
    missing = pair.scores.counts.unanswered / len(lines)
    assert cut > 0 < missing
    place = {"models": ["demo_large"], "datasets": ["demo_arithmetic"]}
    for bounds, found in [
        ({"unanswered": missing, "cut": cut}, ["pass", "pass"]),
        ({"unanswered": missing - 0.001}, ["fail"]),
        ({"cut": cut - 0.001}, ["fail"]),
    ]:
        assert [each.status for each in check(results, answers=[place | bounds])] == found
    without = type(pair)(pair.scores, None)
    (unknown,) = check(Results({("demo_large", "demo_arithmetic"): without}), answers=[{"cut": 1.0}])
    assert unknown.status == "undecided"


def test_groups_are_checked_where_they_are_named(results: Results) -> None:
    group = Group("both", ["demo_arithmetic", "demo_capitals"])
    grouped = Results(results.pairs, (group,))
    rule = {"baseline": {"model": "demo_large"}, "models": ["demo_tiny"]}
    assert statuses(grouped, loss=[rule | {"datasets": ["both"]}]) == {("demo_tiny", "both"): "fail"}
    assert ("demo_tiny", "both") not in statuses(grouped, loss=[rule])


@pytest.mark.parametrize(
    ("policy", "key"),
    [
        ({"scores": [{"models": ["demo_larg"], "at_least": 0.1}]}, "scores[0].models"),
        ({"answers": [{"datasets": ["nothing_*"], "cut": 0.1}]}, "answers[0].datasets"),
        ({"scores": [{"metric": "bleu", "at_least": 0.1}]}, "scores[0].metric"),
        ({"scores": [{"at_most": 0.1}]}, "scores[0].at_most"),
        ({"scores": [{"at_least": 80}]}, "scores[0].at_least"),
        ({"loss": [{"baseline": {"model": "nobody"}}]}, "loss[0].baseline.model"),
        ({"loss": [{"baseline": {"model": "demo_tiny"}, "models": ["demo_tiny"]}]}, "loss[0]"),
    ],
)
def test_a_policy_that_does_not_fit_the_report_is_an_error(results: Results, policy: dict[str, Any], key: str) -> None:
    (problem, *_) = problems(check, results, **policy)
    assert (problem.where, problem.key) == ("policy.yaml", key)
    assert problem.fix


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"scores": [{}]},
        {"scores": [{"at_least": 0.5, "at_most": 0.6}]},
        {"answers": [{}]},
        {"answers": [{"cut": 5}]},
        {"loss": [{"baseline": {}}]},
        {"lost": []},
    ],
)
def test_a_policy_that_says_nothing_or_too_much_is_refused(policy: dict[str, Any], tmp_path: Path) -> None:
    file = write_yaml(tmp_path / "policy.yaml", policy)
    assert all(problem.where == str(file) for problem in problems(read_policy, file))


def test_true_is_no_number(tmp_path: Path) -> None:
    rules = {"answers": [{"unanswered": True}], "scores": [{"at_least": False}]}
    found = problems(read_policy, write_yaml(tmp_path / "policy.yaml", rules))
    assert {problem.key: problem.what for problem in found} == {
        "answers.0.unanswered": "should be a number, not true",
        "scores.0.at_least": "should be a number, not false",
    }


def test_the_same_models_of_an_earlier_report_are_a_baseline(report: Path, tmp_path: Path) -> None:
    policy = write_yaml(tmp_path / "policy.yaml", {"loss": [{"baseline": {"report": str(report)}}]})
    verdict = judge(report, policy)
    assert (verdict.status, len(verdict.checks)) == ("pass", 6)


def test_a_baseline_that_was_asked_something_else_is_undecided(report: Path, tmp_path: Path) -> None:
    root = report.parent.parent.parent
    before = read_finished(report).folder
    data = root / "config/datasets/colours.yaml"
    kept = (data.read_text(), (root / "data/colours.jsonl").read_text())
    write_dataset(root, "colours", COLOURS[:-1], **CHOICE)
    after = plan(root, run="later", max_shard_size=4)
    finish(after, guesses)
    after.report.mkdir(parents=True)
    (after.report / "index.html").touch()
    data.write_text(kept[0])
    (root / "data/colours.jsonl").write_text(kept[1])
    policy = write_yaml(tmp_path / "policy.yaml", {"loss": [{"baseline": {"report": str(before)}}]})
    verdict = judge(after.report, policy)
    assert verdict.status == "undecided"
    assert {each.dataset: each.status for each in verdict.checks if each.model == "good"} == {
        "colours": "undecided",
        "sums": "pass",
        "texts": "pass",
    }


def test_the_page_says_why_and_runs_nothing(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    found = Check(rule="scores[0]", what=odd, model=odd, dataset=odd, status="fail", why=odd)
    verdict = Verdict(status="fail", report=odd, policy=odd, checks=[found])
    page = write_verdict(verdict, tmp_path).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    assert json.loads((tmp_path / "gate.json").read_text())["checks"][0]["why"] == odd


@pytest.mark.parametrize(
    ("policy", "status", "said"),
    [
        ({"answers": [{"cut": 1.0, "unanswered": 1.0}]}, 0, "pass: 12 pass"),
        ({"scores": [{"datasets": ["colours"], "at_least": 1.0}]}, 1, "fail: good on colours"),
        ({"scores": [{"datasets": ["colors"], "at_least": 1.0}]}, 2, "did you mean 'colours'?"),
    ],
)
def test_the_exit_status_tells_ci(report: Path, tmp_path: Path, policy: dict[str, Any], status: int, said: str) -> None:
    file = write_yaml(tmp_path / "policy.yaml", policy)
    command = [sys.executable, str(ROOT / "scripts/gate.py"), "--policy", str(file), "--report", str(report)]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout + done.stderr
    assert (tmp_path / "out/gate.html").is_file() == (status < 2)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
