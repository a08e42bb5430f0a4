"""Data sets on disk: rendered once, divided as often as needed, and made again from whatever is left of them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from projects import (
    GENERATE,
    ROWS,
    change_yaml,
    files_of,
    many_rows,
    problems,
    run_config,
    write_dataset,
    write_model,
    write_rows,
)
from shardmark import layout
from shardmark.config import load
from shardmark.errors import Problem
from shardmark.files import pretty_json, read_jsonl
from shardmark.lock.lock import LOCK, Lock
from shardmark.plan import code, datasets
from shardmark.plan.datasets import PlannedDataset, plan_dataset
from shardmark.plan.shards import PREFIX
from shardmark.plan.spool import Spool
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.shard import ShardLists, ShardRecord
from shardmark.store.hashes import HashCache
from shardmark.tasks import rows as row_module

HEAD = "h" * 2 * PREFIX
PASSAGES: list[dict[str, Any]] = [
    row | {"passage": str(n % 8) * PREFIX, "label": n % 2, "options": ["yes", "no"]}
    for n, row in enumerate(many_rows())
]
GENERATED = GENERATE | {"prompt": HEAD + "{{ passage }} {{ question }}"}
CHOSEN = {"kind": "choice", "prompt": GENERATED["prompt"], "choices": "options", "target": "label"}
CHOSEN |= {"metrics": ["accuracy"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with one data set of 64 rows."""
    write_model(tmp_path, "tiny")
    write_dataset(tmp_path, "sums", many_rows())
    return tmp_path


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of data sets that were rendered, one for each time."""
    calls: list[str] = []
    render = datasets.render

    def counted(settings: Any, rows: Any, where: str, *rest: Any) -> Any:
        calls.append(where)
        return render(settings, rows, where, *rest)

    monkeypatch.setattr(datasets, "render", counted)
    return calls


def staged(root: Path, **config: Any) -> PlannedDataset:
    """The only data set of a project, as the plan stages it."""
    found: list[Problem] = []
    benchmark = load(run_config(root, **config), root, "config/config.yaml", found)
    assert not found
    (dataset,) = benchmark.datasets
    return plan_dataset(dataset, benchmark, Lock(root / LOCK, False), HashCache(root / "hashes.json"))


def names(level: list[ShardRecord]) -> list[str]:
    return [shard.name for shard in level]


def results_of(root: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in files_of(root / "results").items()}


def task_file(root: Path, dataset: PlannedDataset) -> Path:
    return root / "results/tasks" / f"sums@{dataset.record.digest}.jsonl"


def task(root: Path, dataset: PlannedDataset) -> list[Any]:
    return list(read_jsonl(task_file(root, dataset)))


def levels_file(root: Path, dataset: PlannedDataset) -> Path:
    return layout.SHARDS.file(root / "results", dataset="sums", task=dataset.record.digest)


def test_a_record_tells_how_much_there_is_to_do(root: Path) -> None:
    dataset = staged(root)
    record, level = dataset.record, dataset.level(3)
    assert (record.name, record.kind, record.samples, record.rows) == ("sums", "generate", 64, 64)
    for key in ("requests", "read", "written"):
        assert getattr(record, key) == sum(getattr(shard, key) for shard in level) > 0


def test_samples_that_ask_the_same_share_a_request(root: Path) -> None:
    write_rows(root / "data/sums.jsonl", ROWS * 3)
    dataset = staged(root)
    assert (dataset.record.samples, dataset.record.requests) == (15, 5)
    assert sum(shard.requests for shard in dataset.level(2)) == 5
    assert len(task(root, dataset)) == 16


def test_request_files_are_made_once(root: Path, renders: list[str]) -> None:
    first = staged(root)
    level = first.level(3)
    before = files_of(root / "results")
    assert first.level(3) == level
    assert staged(root).level(3) == level
    assert files_of(root / "results") == before
    assert len(renders) == 1


def test_no_request_file_is_made_until_it_is_asked_for(root: Path) -> None:
    dataset = staged(root)
    assert not (root / "results/requests").exists()
    level = dataset.level(3)
    assert {path.stem for path in (root / "results/requests/sums").iterdir()} == set(names(level))


def test_the_number_of_shards_is_a_bound_until_they_are_made(root: Path) -> None:
    dataset = staged(root)
    assert (dataset.shards(1), dataset.shards(7)) == (2, dataset.record.requests)
    assert dataset.shards(7) > len(dataset.level(7)) == dataset.shards(7) == staged(root).shards(7)


@pytest.mark.parametrize("settings", [GENERATED, CHOSEN], ids=["generate", "choice"])
@pytest.mark.parametrize("bits", [0, 1, 5])
def test_another_division_is_made_from_the_first_as_if_it_were_rendered(
    root: Path, renders: list[str], tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any], bits: int
) -> None:
    """Also where requests are kept together for what they begin with after the head of all prompts."""
    write_dataset(root, "sums", PASSAGES, **settings)
    fresh = shutil.copytree(root, tmp_path_factory.mktemp("fresh") / "project")
    first = staged(root).level(3)
    again = staged(root)
    level = again.level(bits)
    assert len(renders) == 1
    assert read_sealed_record(levels_file(root, again), ShardLists).levels == {"3": first, str(bits): level}
    assert staged(fresh).level(bits) == level
    for name in names(level):
        path = f"results/requests/sums/{name}.jsonl"
        assert (root / path).read_bytes() == (fresh / path).read_bytes()


def test_what_begins_alike_is_in_one_shard(root: Path) -> None:
    write_dataset(root, "sums", PASSAGES, **GENERATED)
    assert len(staged(root).level(20)) == 8


def test_request_files_that_were_deleted_are_rendered_again_under_the_same_names(
    root: Path, renders: list[str]
) -> None:
    level = staged(root).level(3)
    before = results_of(root)
    shutil.rmtree(root / "results/requests")
    assert staged(root).level(3) == level
    assert results_of(root) == before
    assert len(renders) == 2


def test_a_lost_request_file_is_made_again_from_another_division(root: Path, renders: list[str]) -> None:
    dataset = staged(root)
    level = dataset.level(3)
    dataset.level(1)
    before = results_of(root)
    (root / "results/requests/sums" / f"{level[2].name}.jsonl").unlink()
    assert staged(root).level(3) == level
    assert results_of(root) == before
    assert len(renders) == 1


def test_a_lost_task_file_is_rendered_again(root: Path, renders: list[str]) -> None:
    dataset = staged(root)
    dataset.level(3)
    before = results_of(root)
    task_file(root, dataset).unlink()
    assert staged(root).record == dataset.record
    assert results_of(root) == before
    assert len(renders) == 2


def test_results_that_were_copied_do_not_need_those_they_were_copied_from(root: Path, tmp_path: Path) -> None:
    staged(root)
    before = results_of(root)
    shutil.copytree(root / "results", root / "copy")
    shutil.rmtree(root / "copy/tasks")
    staged(root, results=str(root / "copy"))
    tasks = {name for name in before if name.startswith("tasks/")}
    assert {f"tasks/{path.name}" for path in (root / "copy/tasks").iterdir()} == tasks


DAMAGE = ["", "{", "[]", "[1]", "5", "null", '"text"', "{}", '{"other": 1}', "\ud83d"]
DAMAGED_MEMOS = ['{"task": 5}', '{"task": "TASK"}', '{"task": "TASK", "name": "sums", "digest": "DIGEST"}']
DAMAGED_SHARDS = [
    '{"levels": 5}',
    '{"levels": null}',
    '{"levels": [1]}',
    '{"levels": {"3": 5}}',
    '{"levels": {"3": null}}',
    '{"levels": {"3": []}}',
    '{"levels": {"3": [5]}}',
    '{"levels": {"3": [{}]}}',
    '{"levels": {"1": [{"name": 5}]}}',
    '{"levels": {"3": [{"name": "0", "requests": 64}]}}',
    '{"levels": {"3": [{"name": "0", "requests": "64", "read": 1, "written": 1}]}}',
]


def damage(path: Path, content: str) -> None:
    path.write_bytes(content.encode(errors="surrogatepass"))


@pytest.mark.parametrize("content", [*DAMAGE, *DAMAGED_MEMOS])
def test_a_damaged_memo_only_costs_time(root: Path, content: str) -> None:
    first = staged(root)
    level = first.level(3)
    before = results_of(root)
    (memo,) = (root / "results/plans/datasets").iterdir()
    damage(memo, content.replace("TASK", str(task_file(root, first))).replace("DIGEST", first.record.digest))
    again = staged(root)
    assert again.record == first.record
    assert again.level(3) == level
    assert results_of(root) == before


@pytest.mark.parametrize("content", [*DAMAGE, *DAMAGED_SHARDS])
def test_a_damaged_list_of_shards_only_costs_time(root: Path, content: str) -> None:
    first = staged(root)
    level = first.level(3)
    before = results_of(root)
    damage(levels_file(root, first), content)
    again = staged(root)
    assert again.shards(3) >= len(level)
    assert again.level(3) == level
    assert results_of(root) == before


def test_a_list_that_lacks_a_shard_is_not_believed(root: Path) -> None:
    first = staged(root)
    level = first.level(3)
    path = levels_file(root, first)
    before = path.read_bytes()
    path.write_text(pretty_json(to_json({"levels": {"3": level[1:]}})))
    again = staged(root)
    assert again.shards(3) == 8
    assert again.level(3) == level
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [*DAMAGE, "HALF", "WITHOUT A LINE"])
def test_nothing_is_divided_anew_from_a_damaged_request_file(
    root: Path, renders: list[str], tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    fresh = shutil.copytree(root, tmp_path_factory.mktemp("fresh") / "project")
    path = root / "results/requests/sums" / f"{staged(root).level(3)[1].name}.jsonl"
    text = path.read_text()
    harmed = {"HALF": text[: len(text) // 2], "WITHOUT A LINE": text.partition("\n")[2]}
    damage(path, harmed.get(content, content))
    assert staged(root).level(1) == staged(fresh).level(1)
    assert len(renders) == 3


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_head_of_the_task_file_only_costs_time(root: Path, content: str) -> None:
    first = staged(root)
    before = results_of(root)
    damage(task_file(root, first), content)
    assert staged(root).record == first.record
    assert results_of(root) == before


def test_nothing_stays_behind_when_a_row_cannot_be_rendered(root: Path) -> None:
    staged(root).level(3)
    before = results_of(root)
    rows: list[Any] = many_rows()
    rows[60] = {"question": "?"}
    write_rows(root / "data/sums.jsonl", rows)
    (problem,) = problems(staged, root)
    assert problem.key == "target"
    assert "row 60" in problem.what
    assert results_of(root) == before


def test_nothing_stays_behind_when_the_last_line_is_broken(root: Path) -> None:
    with (root / "data/sums.jsonl").open("a") as file:
        file.write('{"question": \n')
    (problem,) = problems(staged, root)
    assert problem.where.endswith(":65")
    assert os.listdir(root / "results/tasks") == []
    assert set(results_of(root)) == {"plans/code.json"}


def test_rows_are_rendered_one_by_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request of a row is on disk before the next row is read."""
    events: list[str] = []
    read, add = row_module.read_rows, Spool.add

    def reading(path: Path, how: Any) -> Iterator[Any]:
        for row in read(path, how):
            events.append("read")
            yield row

    def adding(self: Spool, *arguments: Any) -> None:
        events.append("kept")
        add(self, *arguments)

    monkeypatch.setattr(row_module, "read_rows", reading)
    monkeypatch.setattr(Spool, "add", adding)
    assert staged(root).record.rows == 64
    assert events == ["read", "kept"] * 64


def test_a_limit_asks_the_first_rows_and_counts_them_all(root: Path) -> None:
    dataset = staged(root, limit=3)
    assert (dataset.record.samples, dataset.record.rows) == (3, 64)
    assert task(root, dataset)[0]["dataset"]["rows"] == 64
    assert [line["row"] for line in task(root, dataset)[1:]] == many_rows()[:3]


def test_a_description_alone_changes_the_head_of_the_task_file_and_no_digest(root: Path) -> None:
    first = staged(root)
    level = first.level(3)
    lines = task(root, first)
    requests = files_of(root / "results/requests")
    for description in ("one", "two", "one"):
        change_yaml(root / "config/datasets/sums.yaml", description=description)
        again = staged(root)
        header, *rest = task(root, again)
        assert header["settings"] == lines[0]["settings"] | {"description": description}
        assert header | {key: lines[0][key] for key in ("settings", "sha256")} == lines[0]
        assert (rest, again.record, again.level(3)) == (lines[1:], first.record, level)
    assert files_of(root / "results/requests") == requests
    assert len(os.listdir(root / "results/tasks")) == 2


def test_a_data_set_is_rendered_anew_when_any_code_changes_that_renders_it() -> None:
    script = (
        "import sys, shardmark.tasks.render; print(*{name for name in sys.modules if name.startswith('shardmark.')})"
    )
    scripts = code.LIBRARY.parent
    done = subprocess.run([sys.executable, "-c", script], cwd=scripts, capture_output=True, text=True, check=True)
    parts = {name.split(".")[1] for name in done.stdout.split()}
    assert parts - {"errors", "files", "installation", "printable"} <= {
        part.removesuffix(".py") for part in datasets.RENDERING
    }
    assert code.source_digest("settings.py") != code.source_digest()
    assert all((code.LIBRARY / part).exists() for part in datasets.RENDERING)
