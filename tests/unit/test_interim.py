"""What a run has before it has ended: the first shards, as far as there is no gap, and nothing is disturbed."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import made_up_answers
from finished_runs import CHOICE, COLOURS
from projects import GENERATE, files_of, many_rows, plan, problems, write_dataset, write_model
from shardmark.files import read_json
from shardmark.plan.pairs import score_files
from shardmark.plan.plan import Plan
from shardmark.records.score import Scores, SoFar
from shardmark.report.groups import Group, group_scores, weights_of
from shardmark.report.inputs import read_scores
from shardmark.scoring.grouping import macro_estimates, reclustered
from shardmark.scoring.score import shard_names
from shardmark.scoring.statistics import estimate_mean
from shardmark.store.requests import ids_in
from shardmark.store.tasks import read_task
from shardmark.tools.interim import Interim, interim
from shardmark.tools.verify import checks_for, verify
from shardmark.workflow.snakefile import note_current
from unit.report.fake_results import make_metric, make_sample

NOW = "2026-11-29T10:00:00+00:00"
SUMS: dict[str, Any] = GENERATE | {"filters": ["last_number"]}


@pytest.fixture
def run(tmp_path: Path) -> Plan:
    """The plan of a run that has just been started: 64 sums and 12 choices in small shards."""
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "sums", many_rows(), **SUMS)
    write_dataset(tmp_path, "colours", COLOURS, **CHOICE)
    made = plan(tmp_path, run="trial", max_shard_size=8)
    note_current(made)
    return made


def shards(run: Plan, dataset: str) -> list[str]:
    """In the order of their hashes."""
    (pair,) = [pair for pair in run.pairs if pair.dataset.name == dataset]
    header, _ = read_task(run.results / f"tasks/{pair.dataset.full_name}.jsonl")
    wanted = {shard.name for shard in pair.missing}
    for bits in range(10):
        try:
            names = shard_names(run.results, header, bits)
        except KeyError:
            continue
        if set(names) == wanted:
            return names
    raise AssertionError("no such division")


def answer(run: Plan, dataset: str, names: list[str]) -> None:
    (pair,) = [pair for pair in run.pairs if pair.dataset.name == dataset]
    for name in names:
        made_up_answers.answer(run, pair, name, made_up_answers.guesses)


def so_far(run: Plan) -> Interim:
    return interim(run.results, "trial", NOW)


def score(run: Plan, dataset: str) -> Scores:
    (file,) = (run.results / "interim/trial/scores").glob(f"*/{dataset}@*.json")
    return read_scores(file)


def test_the_first_shards_are_scored_with_shards_as_clusters(run: Plan) -> None:
    first = shards(run, "sums")[:4]
    answer(run, "sums", first)
    found = so_far(run)
    scores = score(run, "sums")
    requests = [ids_in(run.results / f"requests/sums/{name}.jsonl") for name in first]
    assert scores.counts.samples == sum(map(len, requests))
    (samples,) = (run.results / "interim/trial/samples").glob("*/sums@*.jsonl")
    shard_of = {key: name for name, keys in zip(first, requests, strict=True) for key in keys}
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    expected = estimate_mean(
        [line["scores"]["exact_match"] for line in lines], [shard_of[line["request"]] for line in lines]
    )
    assert (scores.main.value, scores.main.stderr, scores.main.clusters) == (expected.value, expected.stderr, 4)
    assert "first 4 of 8 shards" in str(scores.counts.so_far)
    assert {state.dataset: state.state.partition(":")[0] for state in found.states} == {
        "colours": "incomplete",
        "sums": str(scores.counts.so_far),
    }


def test_what_lies_behind_a_gap_does_not_count(run: Plan) -> None:
    """Which shards are answered first depends on how long they take, and so on what is in them."""
    names = shards(run, "sums")
    answer(run, "sums", names[:2] + names[3:])
    so_far(run)
    found = score(run, "sums").counts.so_far
    assert found is not None
    assert (found.shards, found.of_shards) == (2, 8)


@pytest.mark.parametrize("count", [0, 1])
def test_less_than_two_shards_are_incomplete_and_have_no_interval(run: Plan, count: int) -> None:
    answer(run, "sums", shards(run, "sums")[:count])
    answer(run, "colours", shards(run, "colours"))
    found = so_far(run)
    (state,) = [state for state in found.states if state.dataset == "sums"]
    assert state.state == f"incomplete: {count} of 8 shards from the first on; a score needs 2"
    assert state.score == ""
    assert found.report is not None
    text = (found.report.parent / "leaderboard.md").read_text()
    assert "incomplete" in text


def test_with_all_shards_it_has_the_score_of_the_real_report(run: Plan) -> None:
    for dataset in ("sums", "colours"):
        answer(run, dataset, shards(run, dataset))
    so_far(run)
    early = {dataset: score(run, dataset) for dataset in ("sums", "colours")}
    for pair in run.pairs:
        made_up_answers.score(run, pair)
    for pair in run.pairs:
        real = read_scores(Path(score_files(run.results, pair.model, pair.dataset)[0]))
        assert early[pair.dataset.name] == real
    assert {state.state for state in so_far(run).states} == {"final"}


def test_nothing_but_its_own_folder_is_written_to(run: Plan) -> None:
    answer(run, "sums", shards(run, "sums")[:3])
    before = files_of(run.results)
    found = so_far(run)
    assert found.report == run.results / "interim/trial/report/index.html"
    after = files_of(run.results)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("interim/trial/") for name in after.keys() - before.keys())
    assert not run.published.exists()
    assert not list(verify(checks_for(run.results, run.results.parent), run.results.parent))


def test_the_report_says_that_it_is_not_the_real_one(run: Plan) -> None:
    answer(run, "sums", shards(run, "sums")[:3])
    found = so_far(run)
    assert found.report is not None
    page = found.report.read_text()
    assert "trial (interim)" in page
    assert "first 3 of 8 shards" in page


def test_a_damaged_file_counts_as_not_answered(run: Plan) -> None:
    names = shards(run, "sums")
    answer(run, "sums", names)
    (path,) = (run.results / "predictions").glob(f"*/sums/{names[3]}.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    so_far(run)
    found = score(run, "sums").counts.so_far
    assert found is not None
    assert found.shards == 3
    assert path.exists()


@pytest.mark.slow
def test_a_mean_over_groups_waits_for_all_groups(tmp_path: Path) -> None:
    rows = [row | {"part": "rare" if n == 0 else "often"} for n, row in enumerate(many_rows())]
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "sums", rows, **SUMS | {"group_by": "part", "group_mean": "macro"})
    made = plan(tmp_path, run="trial", max_shard_size=8)
    note_current(made)
    names = shards(made, "sums")
    (pair,) = made.pairs
    _, lines = read_task(made.results / f"tasks/{pair.dataset.full_name}.jsonl")
    (rare,) = [line.request for line in lines if line.group == "rare"]
    place = next(n for n, name in enumerate(names) if rare in ids_in(made.results / f"requests/sums/{name}.jsonl"))
    for count in sorted({max(2, place), max(2, place + 1)}):
        answer(made, "sums", names[:count])
        state = so_far(made).states[0]
        assert state.state.startswith("incomplete" if count <= place else "so far"), (count, place)
        if count > place:
            assert score(made, "sums").main.clusters == count


def test_a_mean_over_groups_counts_clusters_that_go_across_them() -> None:
    groups, scores, clusters = "aaab", [1.0, 0.0, 1.0, 0.0], ["x", "y", "x", "y"]
    samples = [make_sample(group=group, scores={"s": score}) for group, score in zip(groups, scores, strict=True)]
    found = macro_estimates({"s": make_metric(0.5)}, {"s"}, samples, clusters=clusters)["s (macro)"]
    assert found.value == pytest.approx((2 / 3 + 0) / 2)
    # each sample of group a counts 1/6, that of b 1/2: x is (1/3 + 1/3) / 6 above the mean, y as much below
    assert found.stderr == pytest.approx(((1 / 9) ** 2 * 2 * 2 / 1) ** 0.5)
    assert found.clusters == 2


def test_what_is_no_mean_has_no_error_bar_of_clusters() -> None:
    samples = [make_sample(scores={"acc": score, "f1": score}) for score in (1.0, 0.0, 0.0)]
    metrics = {"acc": make_metric(1 / 3, stderr=9.0), "f1": make_metric(0.4, stderr=9.0, ci95=(0.0, 1.0))}
    found = reclustered(metrics, samples, ["x", "y", "y"])
    assert (found["acc"].clusters, found["acc"].value) == (2, pytest.approx(1 / 3))
    assert (found["f1"].stderr, found["f1"].ci95) == (None, None)


def test_a_group_weighs_what_is_answered_in_part_as_much_as_all_of_it(run: Plan) -> None:
    for pair in run.pairs:
        answer(run, pair.dataset.name, shards(run, pair.dataset.name))
        made_up_answers.score(run, pair)
    one, other = (read_scores(Path(score_files(run.results, p.model, p.dataset)[0])) for p in run.pairs)
    so_far = SoFar(shards=2, of_shards=8, samples=8, of=64)
    counts = replace(one.counts, samples=8, so_far=so_far)
    part = replace(one, counts=counts, metrics={one.primary: replace(one.main, n=8)})
    group = Group("both", [one.dataset.name, other.dataset.name], mean="micro")
    assert weights_of(group, [part, other]) == [64, other.main.n]
    assert str(group_scores(group, [part, other]).counts.so_far).startswith(f"so far {8 + other.counts.samples} of")


def test_a_run_that_was_never_started_is_told(tmp_path: Path) -> None:
    (problem,) = problems(interim, tmp_path, "trial", NOW)
    assert "no run named trial" in problem.what


def test_it_follows_the_plan_that_runs_and_not_one_that_was_only_tried(run: Plan, tmp_path: Path) -> None:
    plan(tmp_path, run="trial", max_shard_size=8, datasets=["colours"])
    assert len(so_far(run).states) == 2
    assert read_json(run.results / "plans/current/trial.json")["report"] == run.report.name
