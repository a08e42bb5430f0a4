"""Data sets, their task files and shards are written as they were when they were dicts, and read strictly."""

import json
from pathlib import Path
from typing import Any

import pytest

from projects import dataset_record, shard_record
from shardmark.errors import UserError
from shardmark.files import file_sha256, json_line, jsonl, sealed, sha256
from shardmark.records.base import Record, Unreadable, convert, shallow, to_json
from shardmark.records.dataset import DatasetRecord, TaskDataset, TaskHeader, TaskLine
from shardmark.records.extent import ExtentRecord, PerGroup
from shardmark.records.origin import FileOrigin, HubOrigin, LmEvalOrigin, LmEvalTasks, Origin
from shardmark.records.shard import ShardLists
from shardmark.store.tasks import read_header, read_task

FILE = FileOrigin(file="/data/a.jsonl", sha256="0a")
HUB = HubOrigin(hub="org/data", config=None, split="test", commit="c0ffee")
LM_EVAL = LmEvalOrigin(
    lm_eval=LmEvalTasks(tasks="/tasks", version="0.4.9", code=False), files={"/data/b": "0b"}, hub={"org/c": "0c"}
)
EXTENT = ExtentRecord(limit=40, samples=40, of=99)
GROUPS = ExtentRecord(limit=PerGroup(per_group=0.5), samples=1, of=2, group_by="task", groups=1, of_groups=1)

ORIGINS: list[tuple[Origin, str]] = [
    (FILE, '{"file": "/data/a.jsonl", "sha256": "0a"}'),
    (HUB, '{"hub": "org/data", "config": null, "split": "test", "commit": "c0ffee"}'),
    (
        FileOrigin(file="a", sha256="b", few_shot=HUB),
        '{"file": "a", "sha256": "b", "few_shot": '
        '{"hub": "org/data", "config": null, "split": "test", "commit": "c0ffee"}}',
    ),
    (
        HubOrigin(hub="a", config="b", split="c", commit="d", few_shot=FILE),
        '{"hub": "a", "config": "b", "split": "c", "commit": "d", "few_shot": '
        '{"file": "/data/a.jsonl", "sha256": "0a"}}',
    ),
    (
        LM_EVAL,
        '{"lm_eval": {"tasks": "/tasks", "version": "0.4.9", "code": false}, '
        '"files": {"/data/b": "0b"}, "hub": {"org/c": "0c"}}',
    ),
]
RECORDS: list[tuple[Record, str]] = [
    (EXTENT, '{"limit": 40, "samples": 40, "of": 99}'),
    (
        GROUPS,
        '{"limit": {"per_group": 0.5}, "samples": 1, "of": 2, "group_by": "task", "groups": 1, "of_groups": 1}',
    ),
    (
        dataset_record(),
        '{"name": "demo", "digest": "d", "file": "config/datasets/demo.yaml", "kind": "generate", "is_chat": false, '
        '"samples": 32, "rows": 32, "requests": 32, "head": 0, "read": 0, "written": 0, "longest": 0}',
    ),
    (
        dataset_record(remarks=["two"], limit=EXTENT),
        '{"name": "demo", "digest": "d", "file": "config/datasets/demo.yaml", "kind": "generate", "is_chat": false, '
        '"samples": 32, "rows": 32, "requests": 32, "head": 0, "remarks": ["two"], '
        '"limit": {"limit": 40, "samples": 40, "of": 99}, "read": 0, "written": 0, "longest": 0}',
    ),
    (
        TaskHeader(
            dataset=TaskDataset(name="a", file="f", digest="d", origin=FILE, rows=1, remarks=["two"], limit=EXTENT),
            settings={"kind": "generate", "chance": None},
            samples_sha256="0a",
        ),
        '{"dataset": {"name": "a", "file": "f", "digest": "d", "origin": {"file": "/data/a.jsonl", "sha256": "0a"}, '
        '"rows": 1, "remarks": ["two"], "limit": {"limit": 40, "samples": 40, "of": 99}}, '
        '"settings": {"kind": "generate", "chance": null}, "samples_sha256": "0a"}',
    ),
    (
        ShardLists(levels={"0": [shard_record("0a", 3)]}),
        '{"levels": {"0": [{"name": "0a", "requests": 3, "read": 0, "written": 0, "longest": 0}]}}',
    ),
    (
        TaskLine(sample="a", request="r", target=["x"], row={"n": 1}),
        '{"sample": "a", "request": "r", "target": ["x"], "row": {"n": 1}}',
    ),
    (
        TaskLine(sample="a", request="r", target=0, row={}, choices=["x"], group="g", lm_eval={"several": True}),
        '{"sample": "a", "request": "r", "target": 0, "row": {}, "choices": ["x"], "group": "g", '
        '"lm_eval": {"several": true}}',
    ),
]


@pytest.mark.parametrize(("record", "text"), RECORDS, ids=range(len(RECORDS)))
def test_the_bytes_of_records_are_pinned(record: Record, text: str) -> None:
    assert json.dumps(to_json(record)) == text
    assert convert(json.loads(text), type(record)) == record
    assert shallow(record).keys() == json.loads(text).keys()


@pytest.mark.parametrize(("origin", "text"), ORIGINS, ids=range(len(ORIGINS)))
def test_an_origin_is_what_its_keys_say(origin: Origin, text: str) -> None:
    assert json.dumps(to_json(origin)) == text
    assert Origin.as_written(json.loads(text)) == origin
    header = {"name": "a", "digest": "d", "rows": 1, "origin": json.loads(text)}
    assert convert(header, TaskDataset).origin == origin


def test_an_origin_knows_its_files_and_what_it_has_in_common_with_others() -> None:
    with_examples = HubOrigin(hub="org/data", config=None, split="test", commit="other", few_shot=FILE)
    assert with_examples.read_from == FILE.read_from == {"/data/a.jsonl": "0a"}
    assert LM_EVAL.read_from == {"/data/b": "0b"}
    assert with_examples.places == HUB.places
    moved, edited = FileOrigin(file="/b", sha256="0a"), FileOrigin(file="/data/a.jsonl", sha256="0b")
    assert moved.places & FILE.places
    assert edited.places & FILE.places
    assert not moved.places & edited.places


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"reqests": 1}, "unknown field `reqests`"),
        ({"samples": "1"}, r"Expected `int`, got `str` - at `\$.samples`"),
        ({"origin": {"file": "a"}}, r"missing required field `sha256` - at `\$.origin`"),
        ({"origin": 5}, r"Expected `object`, got `int` - at `\$.origin`"),
        ({"format": 2}, "written by a newer Shardmark"),
    ],
)
def test_what_is_no_record_is_told_by_its_key(change: dict[str, Any], what: str) -> None:
    with pytest.raises(Unreadable, match=what):
        convert(to_json(dataset_record()) | change, DatasetRecord)


def test_a_shard_of_an_older_version_is_read() -> None:
    old = {"levels": {"0": [{"name": "0a", "requests": 3, "read": 1, "written": 2}]}}
    (shard,) = convert(old, ShardLists).level(0)
    assert (shard.read, shard.longest) == (1, 0)


class Percent(float):
    """A number of a library's own."""


def task_file(path: Path, *lines: str, **header: Any) -> Path:
    """A task file with any lines and keys of its first line changed."""
    path.write_text("".join(lines))
    value = {"samples_sha256": file_sha256(path), "settings": {}}
    value["dataset"] = {"name": "a", "digest": "d", "origin": to_json(FILE), "rows": 1}
    path.write_text(jsonl([sealed(value | header)]) + "".join(lines))
    return path


LINE = json_line({"sample": "a", "request": "r", "target": 0, "row": {"n": "\ud800", "x": float("inf")}})


def test_a_task_file_is_read_with_whatever_its_rows_hold(tmp_path: Path) -> None:
    header, (line,) = read_task(task_file(tmp_path / "a@d.jsonl", LINE))
    assert (header.dataset.full_name, header.dataset.where) == ("a@d", "a")
    assert line == TaskLine(sample="a", request="r", target=0, row={"n": "\ud800", "x": float("inf")})
    assert read_header(tmp_path / "a@d.jsonl") == header


@pytest.mark.parametrize(
    ("line", "header", "what"),
    [
        (LINE.replace('"target"', '"taget"'), {}, "unknown field `taget`"),
        (LINE, {"samples_sha256": "0"}, "its samples do not match the hash in its first line"),
        (LINE, {"dataset": {"name": "a"}}, "missing required field `digest`"),
        (LINE, {"setings": {}}, "unknown field `setings`"),
        (LINE, {"sha256": sha256("another")}, "its first line is not that of a task file, or has changed"),
    ],
)
def test_a_damaged_task_file_is_told_by_name_and_key(
    tmp_path: Path, line: str, header: dict[str, Any], what: str
) -> None:
    path = task_file(tmp_path / "a@d.jsonl", line, **header)
    if "sha256" in header:
        path.write_text(path.read_text().replace('"rows": 1', '"rows": 2'))
    with pytest.raises(UserError, match=what) as caught:
        read_task(path)
    assert caught.value.problems[0].where == str(path)


def test_a_row_is_left_to_json_which_knows_subclasses_of_numbers() -> None:
    line = TaskLine(sample="a", request="r", target=0, row={"share": Percent(0.5)})
    assert json_line(shallow(line)).endswith('"row": {"share": 0.5}}\n')
