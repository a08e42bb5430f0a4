"""What is left to do for a model on a data set, with made-up requests and answers."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from answered import made, wrote
from asked import generate
from projects import dataset_record, files_of, model_record
from shardmark.config import RunConfig
from shardmark.errors import Problem
from shardmark.plan import pairs
from shardmark.plan.cost import Costs, Share, prior_seconds
from shardmark.plan.datasets import PlannedDataset
from shardmark.plan.pairs import ModelPairs, Pair, score_files
from shardmark.plan.spool import Spool
from shardmark.records.dataset import DatasetRecord
from shardmark.records.prediction import Generated
from shardmark.records.trailer import Work
from shardmark.store.hashes import CheckedFiles
from shardmark.store.partials import append_partial
from shardmark.store.predictions import check_predictions, read_predictions, write_predictions
from shardmark.store.requests import ids_in
from shardmark.tasks import request_id

MODEL = model_record("tiny")

FACTS = made(seconds=2.5, load_seconds=1.25, work=Work(read=1000, written=80))


def made_up(key: str) -> Generated:
    return wrote(key, f"made up for {key}")


@dataclass
class Project:
    """A folder of results, and plans of one model on one data set in it."""

    root: Path
    numbers: list[int] = field(default_factory=lambda: list(range(32)))
    "What the rows of the data set ask."
    digest: str = "d"
    limits: dict[str, Any] = field(default_factory=lambda: {"max_shard_size": 8})
    warnings: list[Problem] = field(default_factory=list)

    def plan(self) -> Pair:
        """What one run of Snakemake would find."""
        self.warnings.clear()
        costs, checked = Costs(self.root), CheckedFiles(self.root / "plans" / "checked.json")
        run = RunConfig(results=str(self.root), **self.limits)
        model = ModelPairs(MODEL, run, costs, checked, self.warnings.append)
        pair = model.pair(self.dataset())
        for part in (costs, checked, model.divisions):
            part.save()
        return pair

    def record(self) -> DatasetRecord:
        count = len(self.numbers)
        return dataset_record(digest=self.digest, requests=count, read=2 * count, written=8 * count, longest=8)

    def dataset(self) -> PlannedDataset:
        spool = Spool(self.root / "tasks")
        for number in self.numbers:
            request = generate(f"{number:8}")
            spool.add(request_id(request), request, 0)
        return PlannedDataset(self.record(), self.root, spool, lambda: spool)

    def file(self, shard: str) -> Path:
        return self.root / "predictions/tiny@0/demo" / f"{shard}.jsonl"

    def ids(self, shard: str) -> list[str]:
        return ids_in(self.root / "requests/demo" / f"{shard}.jsonl")

    def infer(self, pair: Pair) -> list[str]:
        """Answer all shards that are missing, as their jobs would: their names."""
        for shard in pair.missing:
            write_predictions(self.file(shard.name), map(made_up, self.ids(shard.name)), FACTS)
        return [shard.name for shard in pair.missing]

    def score(self) -> list[Path]:
        """Write what scoring would."""
        paths = list(map(Path, score_files(self.root, MODEL, self.record())))
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        return paths


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Nothing has been inferred."""
    return Project(tmp_path)


@pytest.fixture
def shards(project: Project) -> list[str]:
    """The names of the shards in a project where all have been inferred."""
    return project.infer(project.plan())


def missing(pair: Pair) -> dict[str, int]:
    """How many answers each of the missing shards lacks."""
    return {shard.name: shard.left for shard in pair.missing}


def level(project: Project) -> set[str]:
    """The four shards that the data set is made of now."""
    return {shard.name for shard in project.dataset().level(2)}


# What is missing


def test_all_shards_are_missing_at_first(project: Project) -> None:
    pair = project.plan()
    assert (pair.shards, len(pair.missing), pair.requests, pair.scored) == (4, 4, 32, False)
    assert missing(pair) == {shard.name: len(project.ids(shard.name)) for shard in pair.missing}
    assert (project.warnings, project.file("").parent.exists()) == ([], False)


def test_what_was_inferred_is_not_missing(project: Project, shards: list[str]) -> None:
    pair = project.plan()
    assert (pair.shards, pair.missing, pair.requests, pair.scored, sum(pair.seconds)) == (4, [], 0, False, 0)


def test_shards_that_were_removed_are_missing_again(project: Project, shards: list[str]) -> None:
    project.file(shards[1]).unlink()
    assert missing(project.plan()) == {shards[1]: len(project.ids(shards[1]))}


def test_a_shard_that_was_begun_lacks_the_rest(project: Project) -> None:
    name = project.plan().missing[0].name
    ids = project.ids(name)
    append_partial(project.file(name), list(map(made_up, ids[:3])))
    pair = project.plan()
    assert (missing(pair)[name], pair.requests) == (len(ids) - 3, 29)


def test_a_shard_whose_answers_are_all_in_a_partial_file_still_has_a_job(project: Project) -> None:
    name = project.plan().missing[0].name
    append_partial(project.file(name), list(map(made_up, project.ids(name))))
    assert missing(project.plan())[name] == 0


def test_an_edited_row_is_the_only_one_to_ask(project: Project, shards: list[str]) -> None:
    project.numbers[0], project.digest = 1000, "e"
    pair = project.plan()
    assert (pair.shards, len(pair.missing), pair.requests) == (4, 1, 1)


def test_a_removed_row_needs_no_job(project: Project, shards: list[str]) -> None:
    project.numbers, project.digest = project.numbers[1:], "e"
    assert missing(project.plan()) == {}


def test_other_limits_need_no_job(project: Project, shards: list[str]) -> None:
    for size, count in ((2, 16), (100, 1), (8, 4)):
        project.limits["max_shard_size"] = size
        pair = project.plan()
        assert (missing(pair), pair.shards <= count, project.warnings) == ({}, True, [])


def test_a_second_plan_changes_nothing(project: Project, shards: list[str]) -> None:
    project.numbers[0], project.digest = 1000, "e"
    first = project.plan()
    project.plan()  # measures what the first has written
    before = files_of(project.root)
    second = project.plan()
    assert (missing(second), files_of(project.root)) == (missing(first), before)


# What was scored


@pytest.mark.parametrize("removed", [True, False])
def test_a_scored_pair_needs_nothing_also_without_predictions(
    project: Project, shards: list[str], removed: bool
) -> None:
    project.score()
    if removed:
        shutil.rmtree(project.file("").parent)
        shutil.rmtree(project.root / "requests")
    pair = project.plan()
    assert (pair.scored, pair.missing, pair.requests, pair.shards) == (True, [], 0, 4)
    assert not removed or not (project.root / "requests").exists()


@pytest.mark.parametrize("part", range(3))
def test_a_pair_is_not_scored_while_one_of_its_files_is_missing(project: Project, part: int) -> None:
    names = list(missing(project.plan()))
    project.score()[part].unlink()
    pair = project.plan()
    assert (pair.scored, list(missing(pair))) == (False, names)


def test_scores_of_another_data_set_or_model_do_not_count(project: Project) -> None:
    paths = project.score()
    project.digest = "e"
    assert not project.plan().scored
    project.digest = "d"
    for path in paths:
        path.parent.rename(path.parent.with_name("tiny@1"))
    assert not project.plan().scored


# Damaged files


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def without_trailer(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def doubled(path: Path) -> None:
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, first, *rest]))


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def of_another_shard(path: Path) -> None:
    other = next(file for file in sorted(path.parent.iterdir()) if file != path)
    path.write_bytes(other.read_bytes())


DAMAGE = [truncated, without_trailer, flipped, doubled, emptied, of_another_shard]


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_put_aside_and_its_requests_are_asked_again(
    project: Project, shards: list[str], damage: Callable[[Path], None], remembered: bool
) -> None:
    if remembered:
        project.plan()
    path = project.file(shards[2])
    damage(path)
    content, requests = path.read_bytes(), len(project.ids(shards[2]))
    assert missing(project.plan()) == {shards[2]: requests}
    (warning,) = project.warnings
    aside = project.root / "damaged/tiny@0/demo" / path.name
    assert (warning.where, str(aside) in warning.fix) == (str(path), True)
    assert (path.exists(), aside.read_bytes()) == (False, content)
    pair = project.plan()
    assert (missing(pair), project.warnings) == ({shards[2]: requests}, [])
    project.infer(pair)
    assert (missing(project.plan()), project.warnings) == ({}, [])


def test_each_damaged_file_is_named(project: Project, shards: list[str]) -> None:
    for name in shards:
        truncated(project.file(name))
    assert missing(project.plan()).keys() == set(shards)
    assert {warning.where for warning in project.warnings} == {str(project.file(name)) for name in shards}


def test_a_file_that_is_damaged_twice_is_put_aside_twice(project: Project, shards: list[str]) -> None:
    for damage in (truncated, flipped):
        damage(project.file(shards[0]))
        pair = project.plan()
        assert (list(missing(pair)), len(project.warnings)) == ([shards[0]], 1)
        project.infer(pair)


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_the_trailer_is_no_more_than_a_warning(project: Project) -> None:
    """Times are read from the trailer before the file is checked."""
    project.limits["max_shard_size"] = 100
    (name,) = project.infer(project.plan())
    path = project.file(name)
    whole = path.read_bytes()
    for place in range(whole.rindex(b'"inferred"'), whole.rindex(b'"sha256"')):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 7]) + whole[place + 1 :])
        assert missing(project.plan()) == {name: 32}
        assert [warning.where for warning in project.warnings] == [str(path)]


def test_a_folder_in_the_place_of_a_file_is_put_aside_too(project: Project, shards: list[str]) -> None:
    project.file(shards[0]).unlink()
    project.file(shards[0]).mkdir()
    assert list(missing(project.plan())) == [shards[0]]
    assert (len(project.warnings), project.file(shards[0]).exists()) == (1, False)


def test_a_link_to_nowhere_in_the_place_of_a_file_is_as_no_file(project: Project, shards: list[str]) -> None:
    project.file(shards[0]).unlink()
    project.file(shards[0]).symlink_to("gone")
    assert list(missing(project.plan())) == [shards[0]]


def test_a_damaged_neighbour_is_not_believed(project: Project, shards: list[str]) -> None:
    project.numbers, project.digest = project.numbers[1:], "e"
    (old,) = set(shards) - level(project)
    flipped(project.file(old))
    pair = project.plan()
    assert [warning.where for warning in project.warnings] == [str(project.file(old))]
    assert pair.requests == len(project.ids(old)) - 1


# Reading once


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read to be checked."""
    paths: list[Path] = []

    def check(path: Path) -> None:
        paths.append(path)
        check_predictions(path)

    monkeypatch.setattr(pairs, "check_predictions", check)
    return paths


def test_a_file_is_read_once_while_it_stays_as_it_is(project: Project, shards: list[str], read: list[Path]) -> None:
    project.plan()
    assert sorted(read) == sorted(map(project.file, shards))
    read.clear()
    project.plan()
    assert read == []


def test_a_file_that_changed_is_read_again(project: Project, shards: list[str], read: list[Path]) -> None:
    project.plan()
    read.clear()
    path = project.file(shards[0])
    os.utime(path)
    project.plan()
    assert read == [path]
    before = path.stat()
    flipped(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (list(missing(project.plan())), read) == ([shards[0]], [path, path])


def test_a_shard_that_was_taken_over_is_whole_when_it_is_checked(
    project: Project, shards: list[str], read: list[Path]
) -> None:
    project.numbers, project.digest = project.numbers[1:], "e"
    project.plan()
    pair = project.plan()
    assert (missing(pair), project.warnings) == ({}, [])
    assert all(project.file(name) in read for name in level(project))
    assert all(read_predictions(project.file(name)) for name in level(project))


# Seconds


def prior(requests: int) -> float:
    """Seconds for some of the project's requests, before anything has been measured."""
    tokens = Share(2 * requests, 8 * requests, 8 if requests else 0)
    return prior_seconds(MODEL, tokens, requests)


@pytest.mark.parametrize("known", [0, 1, 8, 31, 32])
def test_a_shard_will_take_what_is_left_of_it_takes(project: Project, known: int) -> None:
    project.limits["max_shard_size"] = 100
    full = project.plan()
    (name,) = missing(full)
    append_partial(project.file(name), list(map(made_up, project.ids(name)[:known])))
    pair = project.plan()
    assert full.seconds.inference == pytest.approx(prior(32))
    assert pair.seconds.inference == pytest.approx(prior(32 - known))
    assert pair.seconds.load == (full.seconds.load if known < 32 else 0)


def test_the_seconds_of_a_pair_are_those_of_its_missing_shards(project: Project, shards: list[str]) -> None:
    project.file(shards[0]).unlink()
    one = project.plan()
    project.file(shards[1]).unlink()
    both = project.plan()
    counts = [len(project.ids(name)) for name in shards[:2]]
    measured = one.seconds.inference / prior(counts[0])
    assert both.seconds.inference == pytest.approx(measured * sum(map(prior, counts)))
    assert both.seconds.load == pytest.approx(one.seconds.load)
    longest = measured * prior(max(counts)) + one.seconds.load
    assert (both.longest, one.longest) == (pytest.approx(longest), pytest.approx(one.seconds.total))
