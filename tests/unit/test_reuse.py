"""Answers that the same model has given before are taken over by the plan, whatever they were filed under."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from answered import made, wrote
from projects import files_of, model_record, property_test
from shardmark.errors import Problem
from shardmark.files import digest, json_line, jsonl, write_if_changed
from shardmark.plan.reuse import Answered, take_over
from shardmark.plan.shards import Placed, Shard, request_key, split
from shardmark.records.prediction import Generated, Prediction
from shardmark.records.trailer import Work
from shardmark.store.partials import append_partial, partial_files, read_partial
from shardmark.store.predictions import read_predictions, write_predictions

MODEL = model_record("tiny")
IDS = [letter * 64 for letter in "abcd"]
FOREIGN = "e" * 64
SHARD = digest(IDS)


def made_up(key: str) -> Generated:
    return wrote(key, f"made up for {key[0]}", sent=(("<s>", (0, ""), "</s>"),))


def taken(root: Path, name: str = SHARD) -> tuple[int, list[Problem], Path]:
    """How many answers the missing shard of all IDS has after the plan looked for them; warnings; its file."""
    request = root / f"requests/demo/{name}.jsonl"
    request.parent.mkdir(parents=True, exist_ok=True)
    request.write_text("".join(json_line({"id": key}) for key in IDS))
    warnings: list[Problem] = []
    folder = root / "predictions/tiny@0/demo"
    sources = Answered(root, MODEL).sources("demo", {name}, {name})
    return take_over(folder, {name: request}, sources, warnings.append)[name], warnings, folder / f"{name}.jsonl"


def known(out: Path) -> list[Prediction]:
    return [line for path in partial_files(out) for line in read_partial(path)]


FILES = [
    "tiny@0/demo/older",
    f"tiny@0/old/{SHARD}",
    f"old@0/demo/{SHARD}",
    f"old@0/old/{SHARD}",
    "old@0/demo/older",
]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("file", FILES)
def test_what_was_answered_under_another_name_is_known(tmp_path: Path, file: str, whole: bool) -> None:
    path, answers = tmp_path / f"predictions/{file}.jsonl", [made_up(key) for key in [*IDS[:3], FOREIGN]]
    write_predictions(path, answers, made()) if whole else append_partial(path, answers)
    source = path if whole else partial_files(path)[0]
    before = source.read_bytes()
    count, warnings, out = taken(tmp_path)
    assert (count, warnings) == (3, [])
    assert sorted(known(out), key=lambda p: p.id) == [made_up(key) for key in IDS[:3]]
    assert not out.exists()
    assert source.read_bytes() == before


def test_a_shard_whose_requests_are_all_known_is_whole(tmp_path: Path) -> None:
    for name, keys in (("one", IDS[:2]), ("two", [*IDS[2:], FOREIGN])):
        write_predictions(tmp_path / f"predictions/tiny@0/demo/{name}.jsonl", map(made_up, keys), made())
    count, _, out = taken(tmp_path)
    predictions, trailer = read_predictions(out)
    assert predictions == {key: made_up(key) for key in IDS}
    assert (count, trailer.inferred, trailer.reused, trailer.seconds) == (4, 0, 4, 0.0)
    assert not partial_files(out)


def test_nothing_is_taken_from_another_model(tmp_path: Path) -> None:
    write_predictions(tmp_path / f"predictions/tiny@1/demo/{SHARD}.jsonl", map(made_up, IDS), made())
    assert taken(tmp_path)[:2] == (0, [])


def test_a_damaged_source_is_warned_about_and_not_believed(tmp_path: Path) -> None:
    source = tmp_path / "predictions/tiny@0/demo/older.jsonl"
    write_predictions(source, map(made_up, IDS), made())
    source.write_text(source.read_text().replace("made up", "changed"))
    count, (warning,), out = taken(tmp_path)
    assert (count, warning.where, known(out)) == (0, str(source), [])


def test_a_damaged_request_file_makes_no_shard_whole(tmp_path: Path) -> None:
    write_predictions(tmp_path / "predictions/tiny@0/demo/older.jsonl", map(made_up, IDS), made())
    count, _, out = taken(tmp_path, name="f" * 16)
    assert (count, out.exists()) == (0, False)


@pytest.mark.parametrize("name", ["other.host-1.partial", "other.jsonl"])
def test_a_source_that_vanishes_before_it_is_read_is_no_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / "predictions/tiny@0/demo" / name
    path.parent.mkdir(parents=True)
    path.symlink_to("gone")
    assert taken(tmp_path)[:2] == (0, [])


# Edited data sets, and data sets that are divided anew


def identity(number: int) -> str:
    return hashlib.sha256(f"request {number}".encode()).hexdigest()


def divided(numbers: Iterable[int], bits: int) -> list[Shard]:
    """The shards of made-up requests."""
    names = sorted(map(identity, set(numbers)))
    return split([Placed(name, request_key(name), 1, 1, 0, 0) for name in names], bits)


def ids_of(shard: Shard) -> set[str]:
    return {request.id for request in shard.requests}


@dataclass
class Results:
    """A folder of results, and what its files say."""

    root: Path
    model: str = "tiny@0"
    warnings: list[Problem] = field(default_factory=list)

    def file(self, shard: str, dataset: str = "demo", model: str | None = None) -> Path:
        return self.root / "predictions" / (model or self.model) / dataset / f"{shard}.jsonl"

    def answer(self, shards: Iterable[Shard]) -> None:
        """Answer shards, as their jobs would."""
        for shard in shards:
            write_predictions(self.file(shard.name), map(made_up, ids_of(shard)), made(inferred=len(shard.requests)))

    def plan(self, level: list[Shard]) -> dict[str, int]:
        """Take over what is known of a level; how many answers there are for each shard that was missing."""
        names, requests = {shard.name for shard in level}, {}
        for shard in level:
            if not self.file(shard.name).exists():
                path = requests[shard.name] = self.root / f"requests/demo/{shard.name}.jsonl"
                write_if_changed(path, jsonl({"id": request.id, "prompt": "x"} for request in shard.requests))
        sources = Answered(self.root, MODEL).sources("demo", set(requests), names)
        return take_over(self.file("").parent, requests, sources, self.warnings.append)

    def lacking(self, level: list[Shard]) -> list[int]:
        """How many answers the shards lack that are not whole after a plan."""
        known = self.plan(level)
        left = [shard for shard in level if not self.file(shard.name).exists()]
        for shard in level:
            if shard not in left:
                assert read_predictions(self.file(shard.name))[0] == {key: made_up(key) for key in ids_of(shard)}
        assert self.warnings == []
        return [len(shard.requests) - known[shard.name] for shard in left]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """40 answered requests in four shards."""
    results = Results(tmp_path)
    results.answer(divided(range(40), 2))
    return results


def test_nothing_is_missing_of_what_was_answered(results: Results) -> None:
    before = files_of(results.root)
    assert (results.plan(divided(range(40), 2)), files_of(results.root)) == ({}, before)


@pytest.mark.parametrize("edited", range(40, 48))
def test_an_edited_row_is_the_only_one_to_ask(results: Results, edited: int) -> None:
    assert results.lacking(divided([*range(1, 40), edited], 2)) == [1]


def test_an_inserted_row_is_the_only_one_to_ask(results: Results) -> None:
    assert results.lacking(divided(range(41), 2)) == [1]


def test_a_deleted_row_needs_no_job(results: Results) -> None:
    assert results.lacking(divided(range(1, 40), 2)) == []
    assert results.lacking(divided(range(20), 2)) == []


def test_an_edit_that_is_undone_needs_no_job(results: Results) -> None:
    edited = divided([*range(1, 40), 40], 2)
    assert results.lacking(edited) == [1]
    for old in divided(range(40), 2):
        results.file(old.name).unlink()
    results.answer(shard for shard in edited if not results.file(shard.name).exists())
    assert results.lacking(divided(range(1, 40), 2)) == []


@pytest.mark.parametrize("bits", [0, 1, 3, 5, 32])
def test_another_division_needs_no_job(results: Results, bits: int) -> None:
    assert results.lacking(divided(range(40), bits)) == []


def test_there_and_back_again_needs_no_job(results: Results) -> None:
    for bits in (4, 0, 2):
        assert results.lacking(divided(range(40), bits)) == []


def test_a_finer_division_of_half_the_answers_lacks_the_other_half(tmp_path: Path) -> None:
    results, (one, two) = Results(tmp_path), divided(range(40), 1)
    results.answer([one])
    level = divided(range(40), 3)
    missing = [len(shard.requests) for shard in level if ids_of(shard) <= ids_of(two)]
    assert results.lacking(level) == missing
    assert sum(missing) == len(two.requests)


def test_a_coarser_division_of_half_the_answers_is_not_whole_and_has_them(tmp_path: Path) -> None:
    results, (one, two) = Results(tmp_path), divided(range(40), 1)
    results.answer([one])
    assert results.lacking(divided(range(40), 0)) == [len(two.requests)]


def test_a_data_set_that_grew_and_is_divided_anew_lacks_what_is_new(results: Results) -> None:
    level = divided(range(100), 4)
    new = set(map(identity, range(40, 100)))
    assert results.lacking(level) == [n for shard in level if (n := len(ids_of(shard) & new))]


def test_answers_in_partial_files_alone_make_no_shard_whole(tmp_path: Path) -> None:
    results, (shard,) = Results(tmp_path), divided(range(8), 0)
    for part in divided(range(8), 1):
        append_partial(results.file(part.name), list(map(made_up, ids_of(part))))
    assert results.lacking([shard]) == [0]
    assert len(known(results.file(shard.name))) == 8


def test_a_whole_shard_tells_how_its_answers_were_made(tmp_path: Path) -> None:
    results, (old,), (new,) = Results(tmp_path), divided(range(8), 0), divided(range(7), 0)
    kept: dict[str, Any] = {"batch_size": 4, "hardware": {"cpu": "x"}, "packages": {"torch": "2"}, "started": "then"}
    kept |= {"finished": "later", "gpus": ["7"], "gpu_names": ["H100"]}
    facts = made(**kept, inferred=8, seconds=9.0, load_seconds=3.0, work=Work(read=5, written=5))
    write_predictions(results.file(old.name), map(made_up, ids_of(old)), facts)
    assert results.lacking([new]) == []
    trailer = read_predictions(results.file(new.name))[1]
    none = {"inferred": 0, "seconds": 0.0, "load_seconds": 0.0, "work": Work(read=0, written=0)}  # not counted twice
    wanted = kept | none | {"reused": 7, "count": 7}
    assert {key: getattr(trailer, key) for key in wanted} == wanted


def pairs(answers: Iterable[Any]) -> set[tuple[str, str]]:
    return {(answer.id, answer.text) for answer in answers}


def answers_in(path: Path) -> set[tuple[str, str]]:
    return pairs(read_predictions(path)[0].values() if path.suffix == ".jsonl" else read_partial(path))


NUMBERS = st.sets(st.integers(0, 15), max_size=12)
FOLDERS = [("tiny@0", "demo"), ("old@0", "demo"), ("tiny@0", "other"), ("tiny@1", "demo")]
OLD = st.lists(
    st.tuples(st.sampled_from(FOLDERS), NUMBERS, st.integers(0, 3), st.booleans(), st.integers(0, 7)), max_size=4
)
"Folder, requests and their division; whether its shards are whole or half done; which of them was not begun."


def fill(results: Results, old: list[tuple[tuple[str, str], set[int], int, bool, int]]) -> None:
    """Answers of several runs, each of which says something else."""
    for run, ((model, dataset), numbers, bits, whole, skipped) in enumerate(old):
        for shard in [shard for n, shard in enumerate(divided(numbers, bits)) if n != skipped]:
            path = results.file(shard.name, dataset, model)
            answers = [wrote(request.id, f"said by {run}") for request in shard.requests]
            if whole and not partial_files(path):
                write_predictions(path, answers, made(inferred=len(answers)))
            elif not path.exists() and not partial_files(path):
                append_partial(path, answers[::2])


@property_test
@given(old=OLD, numbers=NUMBERS, bits=st.integers(0, 3))
def test_whatever_was_answered_is_taken_over_and_told_exactly(
    tmp_path_factory: pytest.TempPathFactory,
    old: list[tuple[tuple[str, str], set[int], int, bool, int]],
    numbers: set[int],
    bits: int,
) -> None:
    results = Results(tmp_path_factory.mktemp("results"))
    fill(results, old)
    level = divided(numbers, bits)
    missing = {shard.name: shard for shard in level if not results.file(shard.name).exists()}
    begun = {name: pairs(known(results.file(name))) for name in missing}
    own, in_level = results.file("").parent, {shard.name for shard in level}
    sources = {}
    for path in results.root.glob("predictions/*@0/*/*"):
        name = path.name.partition(".")[0]
        if not (path.parent == own and name in in_level) and (path.parent.name == "demo" or name in missing):
            sources[path] = answers_in(path)
    whole = set[tuple[str, str]]().union(*(said for path, said in sources.items() if path.suffix == ".jsonl"))
    before = files_of(results.root / "predictions")
    counts = results.plan(level)
    after = files_of(results.root)
    assert (results.warnings, counts.keys()) == ([], missing.keys())
    for name, shard in missing.items():
        out, ids = results.file(name), ids_of(shard)
        anywhere = begun[name].union(*sources.values())
        assert counts[name] == len(ids & {key for key, _ in anywhere})
        if not begun[name]:
            assert out.exists() == (ids <= {key for key, _ in whole})
        if out.exists():
            assert answers_in(out) <= whole
            assert {key for key, _ in answers_in(out)} == ids
            assert partial_files(out) == []
        else:
            there = known(out)
            assert begun[name] <= pairs(there) <= anywhere
            assert len({answer.id for answer in there}) == len(there) == counts[name]
    left = files_of(results.root / "predictions")
    begun_files = {path.name for name in missing for path in own.glob(f"{name}.*")}
    assert all(left[file] == content for file, content in before.items() if Path(file).name not in begun_files)
    results.plan(level)
    assert files_of(results.root) == after
