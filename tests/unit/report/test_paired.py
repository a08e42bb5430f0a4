"""A run's models compared with each other, and data sets that ask about the same rows."""

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from shardmark.records.base import convert
from shardmark.records.score import Scores
from shardmark.report.groups import Group
from shardmark.report.leaderboard import Leaderboard, rank_models
from shardmark.report.paired import Comparisons
from shardmark.report.remarks import headline, same_rows
from shardmark.report.results import Results, read_results
from shardmark.report.sample_scores import whole_scores
from shardmark.scoring.comparisons import compare
from unit.report.fake_results import Files, fraction, make_metric, make_samples, make_scores, write_pair

ROWS = {"hub": "org/questions", "config": None, "split": "test", "commit": "c" * 40}


def wrong_in(root: Path, wrong: dict[str, range], with_samples: bool = True) -> Results:
    """Models on 100 sums, each wrong in a range of them."""
    files = Files([], [])
    for model, mistakes in wrong.items():
        samples = make_samples(model, "demo_arithmetic", 100)
        for n, sample in enumerate(samples):
            sample["scores"]["accuracy"] = float(n not in mistakes)
        write_pair(root, files, make_scores(model, "demo_arithmetic", samples), samples)
    return read_results(files.scores, files.samples if with_samples else [])


@pytest.mark.parametrize("with_samples", [True, False])
def test_models_that_differ_on_the_same_samples_are_told_apart_where_their_intervals_are_wide(
    tmp_path: Path, with_samples: bool
) -> None:
    board = rank_models(wrong_in(tmp_path, {"a": range(30), "b": range(42)}, with_samples))  # b wherever a is
    other = "" if with_samples else "tied"
    assert [row.standing for row in board.rows] == ["best", other]
    assert [cell.standing for cell in board.cells(board.columns[0])] == ["best", other]
    assert [str(row.ranks) for row in board.rows] == (["1", "2"] if with_samples else ["1–2", "1–2"])


def test_means_of_large_scores_are_paired_although_they_are_rounded() -> None:
    scores = [random.Random(n).uniform(1e9, 9e9) for n in range(999)]
    pair = convert(make_scores("a", "demo_arithmetic", make_samples("a", "demo_arithmetic", 9)), Scores)
    for off, is_mean in ((0, True), (100, False)):
        main = make_metric(math.fsum(scores) / 999 + off, percent=False)
        found = whole_scores(replace(pair, metrics={"accuracy": main}), [str(n) for n in range(999)], scores)
        assert bool(found) is is_mean


def test_means_over_groups_are_paired_with_each_group_counting_the_same(tmp_path: Path) -> None:
    files = Files([], [])
    for model, mistakes in {"a": range(30), "b": range(40)}.items():
        samples = make_samples(model, "demo_arithmetic", 100)
        for n, sample in enumerate(samples):
            sample |= {"group": "small" if n < 20 else "large"}
            sample["scores"] = {"accuracy (macro)": float(n not in mistakes)}
        scores = make_scores(model, "demo_arithmetic", samples) | {"primary": "accuracy (macro)"}
        macro = 0.5 * (80 - len(mistakes) + 20) / 80
        scores["metrics"]["accuracy (macro)"] |= {"value": macro, "stderr": 0.05, "ci95": None}
        write_pair(tmp_path, files, scores, samples)
    results = read_results(*files)
    found = Comparisons(results).between("a", "b", "demo_arithmetic")
    assert found.difference == pytest.approx(0.5 * 10 / 80)
    assert (found.n, found.wins, found.losses) == (100, 10, 0)
    assert found.p == pytest.approx(2 * 0.5**10)  # as often as ten coins agree


def test_the_more_models_are_compared_the_more_must_a_difference_be(tmp_path: Path) -> None:
    two = rank_models(wrong_in(tmp_path / "two", {"a": range(30), "b": range(36)}))
    assert two.rows[1].standing == ""  # p = 0.031
    three = rank_models(wrong_in(tmp_path / "three", {"a": range(30), "b": range(36), "c": range(33)}))
    assert [row.standing for row in three.rows] == ["best", "tied", "tied"]  # 3 * 0.031
    assert [str(row.ranks) for row in three.rows] == ["1–3"] * 3


def prompts(root: Path, names: dict[str, list[int]], targets: dict[str, str] | None = None, **changes: Any) -> Results:
    """Two models on data sets, each of which asks about some rows of one source."""
    files = Files([], [])
    for dataset, rows in names.items():
        for model, right in (("a", 0.8), ("b", 0.6)):
            chosen = random.Random(f"{dataset} {model}")
            samples = [
                {
                    **{"sample": f"{dataset}-{row}", "request": "", "prompt": f"{dataset}: {row}", "output": "x"},
                    **{"answer": "x", "target": "x", "truncated": 0, "row": {"question": row, "answer": "x"}},
                    "scores": {"accuracy": float(chosen.random() < right)},
                }
                for row in rows
            ]
            scores = make_scores(model, "demo_arithmetic", samples)
            scores["dataset"] |= {"name": dataset, "digest": dataset}
            scores["metrics"] = {"accuracy": fraction([sample["scores"]["accuracy"] for sample in samples])}
            scores["provenance"]["rows"] = ROWS if "rows" not in changes else changes["rows"] | {"split": dataset}
            scores["provenance"]["config"]["dataset"]["target"] = (targets or {}).get(dataset, "{{ answer }}")
            write_pair(root, files, scores, samples)
    return read_results(files.scores, files.samples, groups=changes.get("groups", ()))


def mean_of(board: Leaderboard, model: str) -> Any:
    return next(row.mean for row in board.rows if row.model.name == model)


def test_two_prompts_of_one_data_set_count_as_one(tmp_path: Path) -> None:
    some = list(range(40))
    results = prompts(tmp_path, {"plain": some, "letters": some[::-1], "elsewhere": list(range(100, 130))})
    board = rank_models(results)
    values = {d: results.pairs["a", d].scores.main for d in ("plain", "letters", "elsewhere")}
    assert board.counted == 2
    mean = mean_of(board, "a")
    assert mean.value == pytest.approx(
        ((values["plain"].value or 0) + (values["letters"].value or 0)) / 4 + (values["elsewhere"].value or 0) / 2
    )
    both = ((values["plain"].stderr or 0) + (values["letters"].stderr or 0)) / 4  # not in squares: they may agree
    assert mean.stderr == pytest.approx(np.hypot(both, (values["elsewhere"].stderr or 0) / 2))
    assert same_rows(board) == ["plain and letters ask about the same rows and count as one"]
    assert "over 2 data sets" in headline(board)


@pytest.mark.parametrize(
    ("names", "targets", "changes"),
    [
        ({"x": [1, 2, 3, 4], "y": [5, 6, 7, 8]}, {}, {}),
        ({"x": [1, 2, 3, 4], "y": [4, 5, 6, 7]}, {}, {}),
        ({"x": [1, 2], "y": [1, 2]}, {"x": "{{ toxic }}", "y": "{{ 'ab'[insult] }}"}, {}),
        ({"x": [1, 2], "y": [1, 2]}, {}, {"rows": ROWS}),
    ],
    ids=["other rows", "few of the same", "another question", "another split"],
)
def test_data_sets_that_ask_something_else_count_each(
    tmp_path: Path, names: dict[str, list[int]], targets: dict[str, str], changes: Any
) -> None:
    board = rank_models(prompts(tmp_path, names, targets, **changes))
    assert (board.counted, same_rows(board)) == (2, [])


def renumbered(root: Path, names: list[str], n: int, row: Any) -> Results:
    """Data sets of one source whose samples have the same names and right answers."""
    results = prompts(root, {name: list(range(place * 100, place * 100 + n)) for place, name in enumerate(names)})
    for path in root.glob("samples/*/*"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        lines = [line | {"sample": str(number)} | row(line) for number, line in enumerate(lines)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    files = [sorted(root.glob(f"{kind}/*/*")) for kind in ("scores", "samples")]
    assert len(results.pairs) == len(files[0])
    return read_results(*files)


def test_rows_with_another_column_are_the_same_where_many_right_answers_are(tmp_path: Path) -> None:
    many = renumbered(tmp_path / "many", ["x", "y"], 20, lambda line: {})
    assert many.same_rows.sets == [("x", "y")]
    assert many.same_rows.aligned("x", "y") == (list(range(20)), list(range(20)))
    few = renumbered(tmp_path / "few", ["x", "y"], 19, lambda line: {})
    assert few.same_rows.sets == []


def test_samples_that_do_not_tell_their_rows_are_not_taken_for_the_same(tmp_path: Path) -> None:
    results = renumbered(tmp_path, ["x", "y"], 30, lambda line: {"row": None})
    assert results.same_rows.sets == []


def test_a_part_of_a_data_set_asks_about_the_same_rows(tmp_path: Path) -> None:
    results = prompts(tmp_path, {"x": list(range(30)), "y": list(range(8)), "z": [9, 10]})
    assert results.same_rows.sets == [("x", "y", "z")]


def test_without_samples_the_parts_of_the_data_sets_tell(tmp_path: Path) -> None:
    results = prompts(tmp_path, {"x": [1, 2], "y": [1, 2], "z": [1, 2]})
    scores = []
    for (_, dataset), pair in results.pairs.items():
        found = json.loads(next(tmp_path.glob(f"scores/{pair.scores.model.name}@*/{dataset}@*")).read_text())
        found["provenance"]["components"] = {"rows": "w" if dataset == "z" else "r", "revision": "v"}
        path = next(tmp_path.glob(f"scores/{pair.scores.model.name}@*/{dataset}@*"))
        path.write_text(json.dumps(found))
        scores.append(path)
    assert read_results(scores, []).same_rows.sets == [("x", "y")]


def test_two_prompts_are_compared_row_by_row(tmp_path: Path) -> None:
    results = prompts(tmp_path, {"x": list(range(20)), "y": list(range(25, -1, -1))})
    compared = Comparisons(results)
    found = compared.of_datasets("x", "y", "a")
    here, there = (compared.scores(name)["a"].scores for name in "xy")
    assert found == compare(list(here), [there[25 - row] for row in range(20)])
    assert compared.of_datasets("x", "x", "none") is None


def test_a_group_with_two_prompts_is_not_more_certain_for_that(tmp_path: Path) -> None:
    group = Group("both", ["x", "y"])
    results = prompts(tmp_path, {"x": list(range(20)), "y": list(range(20))}, groups=[group])
    errors = [results.pairs["a", name].scores.main.stderr or 0 for name in "xy"]
    assert results.grouped["a", "both"].scores.main.stderr == pytest.approx(sum(errors) / 2)


def test_groups_are_compared_by_the_differences_on_their_members(tmp_path: Path) -> None:
    group = Group("both", ["x", "y"], "micro")
    names = {"x": list(range(20)), "y": list(range(100, 150))}
    compared = Comparisons(prompts(tmp_path, names, groups=[group]))
    apart = [compared.between("a", "b", name) for name in "xy"]
    found = compared.between("a", "b", "both")
    assert found.difference == pytest.approx((20 * apart[0].difference + 50 * apart[1].difference) / 70)
    assert (found.n, found.test) == (70, "combined")


def test_a_model_asked_in_other_words_about_the_same_samples_is_paired_by_their_names(tmp_path: Path) -> None:
    results = wrong_in(tmp_path, {"a": range(30), "b": range(42)})
    assert Comparisons(results).between("a", "b", "demo_arithmetic").wins == 12
    assert Comparisons(results).between("b", "a", "demo_arithmetic").losses == 12
