"""A limit takes rows, a fraction of them, or rows of each group, and every score says what it left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from projects import dataset_settings, write_dataset, write_model
from shardmark.config import RunConfig
from shardmark.config.merge import parse_assignments
from shardmark.config.run import GroupLimit
from shardmark.plan.plan import make_plan
from shardmark.records.base import to_json
from shardmark.records.extent import ExtentRecord
from shardmark.tasks import render
from shardmark.tasks.extent import Extent, described, share

ROWS = [{"question": f"{n}?", "answer": str(n), "subject": "abcd"[n % 4] if n < 28 else "e"} for n in range(30)]


def limit_of(value: Any) -> Any:
    return RunConfig.model_validate({"limit": value}).limit


def asked(limit: Any, **keys: Any) -> tuple[list[int], ExtentRecord | None]:
    """The rows that are asked, and what is said of them."""
    given = dataset_settings(prompt="{{ question }}", **keys)
    limit = limit_of(limit)
    extent = Extent(limit, given.group_by)
    found = [int(sample.row["answer"]) for sample in render(given, ROWS, "d.yaml", limit, (), extent)]
    return found, extent.record()


@pytest.mark.parametrize(
    ("limit", "keys", "rows", "said"),
    [
        (4, {}, [0, 1, 2, 3], "first 4 of 30 rows"),
        (4, {"where": "answer | int > 9"}, [10, 11, 12, 13], "first 4 of 20 rows"),
        (0.1, {}, [0, 1, 2], "first 3 of 30 rows"),
        (0.101, {}, [0, 1, 2, 3], "first 4 of 30 rows"),
        (0.05, {"where": "answer | int > 9"}, [10], "first 1 of 20 rows"),
        (2, {"group_by": "subject"}, [0, 1], "first 2 of 30 rows; 2 of 5 subjects"),
        ({"per_group": 1}, {"group_by": "subject"}, [0, 1, 2, 3, 28], "first 1 of each subject: 5 of 30 rows"),
        (
            {"per_group": 0.2},
            {"group_by": "subject"},
            [0, 1, 2, 3, 4, 5, 6, 7, 28],
            "20% of each subject: 9 of 30 rows",
        ),
        ({"per_group": 2}, {}, [0, 1], "first 2 of 30 rows"),
        (30, {}, list(range(30)), ""),
        (10**9, {}, list(range(30)), ""),
        ({"per_group": 7}, {"group_by": "subject"}, list(range(30)), ""),
        (None, {}, list(range(30)), ""),
    ],
    ids=str,
)
def test_a_limit_takes_the_first_rows_and_says_so(limit: Any, keys: Any, rows: list[int], said: str) -> None:
    found, record = asked(limit, **keys)
    assert found == rows
    assert said in described(record)
    assert bool(described(record)) is bool(said)


def test_numbers_are_grouped_and_groups_counted() -> None:
    record = ExtentRecord(limit=40, samples=40, of=14042, group_by="subject", groups=1, of_groups=57)
    assert described(record) == "first 40 of 14,042 rows; 1 of 57 subjects"
    assert described(replace(record, group_by="category")).endswith("1 of 57 categories")


def test_chosen_rows_are_named_by_task() -> None:
    extent = Extent(None, "task", {"b": [3, 0, 3], "a": range(20, 60, 4)})
    extent.add("a", 10, 100)
    extent.add("b", 2, 9)
    record = extent.record()
    assert record == ExtentRecord(chosen={"a": [*range(20, 60, 4)], "b": [0, 3]}, samples=12, of=109)
    named = "20, 24, 28, 32, 36, 40, 44, 48 and 2 more of a; 0, 3 of b"
    assert described(record) == f"only rows {named}: 12 of 109 rows"
    whole = Extent(None, None, {"a": [0]})
    whole.add("", 1, 1)
    assert whole.record() is None


@pytest.mark.parametrize(("limit", "total", "taken"), [(0.1, 30, 3), (0.07, 100, 8), (0.001, 5, 1), (3, 2, 3)])
def test_fractions_are_rounded_up_as_lm_eval_does(limit: float, total: int, taken: int) -> None:
    assert share(limit, total) == taken  # 0.07 * 100 is 7.000000000000001


@pytest.mark.parametrize(
    "limit", [0, -1, 1.5, "x", True, {"per_group": 0}, {"per_group": 2.5}, {"per_group": True}, {"a": 1}, []]
)
def test_what_is_no_limit_is_refused(limit: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        limit_of(limit)


@pytest.mark.parametrize("text", ["0.5", "7", "{per_group: 3}", "{per_group: 0.25}"])
def test_a_limit_may_stand_on_the_command_line(text: str) -> None:
    found = limit_of(parse_assignments([f"limit={text}"])["limit"])
    assert found in (0.5, 7, GroupLimit(per_group=3), GroupLimit(per_group=0.25))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_model(tmp_path, "m")
    keys = {"kind": "generate", "prompt": "{{ question }}", "target": "answer", "metrics": ["exact_match"]}
    write_dataset(tmp_path, "d", ROWS, **keys, group_by="subject")
    return tmp_path


def planned(root: Path, limit: Any) -> Any:
    config = {"models": ["m"], "datasets": ["d"], "limit": limit, "results": str(root / "results")}
    return make_plan(config, root, "config/config.yaml", False)


def test_the_plan_says_it_and_so_do_the_files_that_scores_are_made_from(root: Path) -> None:
    record = planned(root, 4).datasets[0]
    assert described(record.limit) == "first 4 of 30 rows; 4 of 5 subjects"
    task = root / "results/tasks" / f"d@{record.digest}.jsonl"
    assert json.loads(task.read_text().partition("\n")[0])["dataset"]["limit"] == to_json(record.limit)
    assert planned(root, 4).datasets[0].limit == record.limit  # from the memo


@pytest.mark.parametrize("limit", [0.5, {"per_group": 2}, {"per_group": 0.5}])
def test_any_limit_can_be_planned_again(root: Path, limit: Any) -> None:
    first, again = planned(root, limit), planned(root, limit)
    assert first.pairs[0].shards == again.pairs[0].shards > 0
    assert first.report == again.report


def test_other_rows_beyond_a_limit_make_other_scores(root: Path) -> None:
    before = planned(root, 4).datasets[0]
    with open(root / "data/d.jsonl", "a") as file:
        file.write(json.dumps(ROWS[0] | {"question": "new?"}) + "\n")
    after = planned(root, 4).datasets[0]
    assert before.digest != after.digest
    assert described(after.limit) == "first 4 of 31 rows; 4 of 5 subjects"


def test_a_limit_that_leaves_nothing_out_changes_nothing(root: Path) -> None:
    assert planned(root, None).datasets[0].digest == planned(root, 100).datasets[0].digest
