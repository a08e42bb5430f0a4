"""verify names whatever is not as it was written, and a run makes anew what --delete removes."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from answered import made
from made_up_answers import finish
from projects import GENERATE, change_yaml, plan, write_dataset, write_model, write_rows
from shardmark.engine.stage import CHECKSUMS, checksums
from shardmark.files import pretty_json, read_json, sealed
from shardmark.store.predictions import read_predictions, write_predictions
from shardmark.tools.checks import Damage
from shardmark.tools.verify import checks_for, delete_damaged, verify


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a finished run, whose folder is `original`; scoring takes its time, so it is done once."""
    root = tmp_path_factory.mktemp("verify") / "original"
    write_model(root, "m")
    write_dataset(root, "d", id_column="name", **GENERATE)
    finish(plan(root, max_shard_size=2))
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of the project. Models and data are read from the original, so that their paths are right."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def damages(root: Path) -> list[Damage]:
    return list(verify(checks_for(root / "results", root), root))


def one(root: Path, pattern: str) -> Path:
    return sorted(root.glob(f"results/{pattern}"))[0]


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, in a way that leaves text text."""
    content = bytearray(path.read_bytes())
    middle = next(n for n in range(len(content) // 2, len(content)) if chr(content[n]).isalnum())
    content[middle] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def double(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


KINDS = [
    "predictions/*/*/*.jsonl",
    "requests/*/*.jsonl",
    "tasks/*.jsonl",
    "tasks/*.shards.json",
    "models/*.json",
    "scores/*/*.json",
    "samples/*/*.jsonl",
    "timings/*/*.json",
    "plans/hashes.json",
]


def test_what_is_whole_is_not_named(root: Path) -> None:
    checked = checks_for(root / "results", root)
    everything = {path for path in (root / "results").rglob("*") if path.is_file()}
    beside = {path for path in everything if path.parent.parent.name in ("samples", "timings")}
    assert everything - beside <= {check.path for check in checked}
    assert list(verify(checked, root)) == []


@pytest.mark.parametrize("harm", [flip, truncate, empty, double])
@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_file_is_named_and_made_anew(root: Path, kind: str, harm: Callable[[Path], None]) -> None:
    path = one(root, kind)
    harm(path)
    found = damages(root)
    assert {damage.problem.where for damage in found} == {str(path)}
    assert all(damage.problem.fix for damage in found)
    before = {file for file in root.rglob("*") if file.is_file()}
    removed = delete_damaged(found, root / "results")
    assert path in removed
    assert {file for file in root.rglob("*") if file.is_file()} == before - set(removed)
    assert damages(root) == []


def test_a_run_makes_anew_what_was_removed(root: Path) -> None:
    for kind in KINDS:
        truncate(one(root, kind))
    delete_damaged(damages(root), root / "results")
    finish(plan(root, max_shard_size=2))
    assert damages(root) == []
    assert len(list(root.glob("results/scores/*/*.json"))) == 1


@pytest.mark.parametrize("kind", ["plans/datasets/*.json", "tasks/*.shards.json", "staged/*.json", *KINDS])
@pytest.mark.parametrize("content", [b"", b"[]\n", b'{"sha256": "0"}\n'])
def test_a_plan_makes_anew_what_it_finds_damaged_or_leaves_it_alone(root: Path, kind: str, content: bytes) -> None:
    """Whatever lies there, planning ends well; what is scored and hashed later is verify's."""
    (record,) = plan(root, max_shard_size=2).models
    folders = {"model": record.source.path, "tokenizer": record.source.path}
    staged = root / f"results/staged/{record.full_name}.json"
    staged.parent.mkdir(exist_ok=True)
    staged.write_text(pretty_json(sealed(folders)))
    for score in root.glob("results/scores/*/*.json") if not kind.startswith("scores") else ():
        score.unlink()  # so that all the rest is needed
    path = one(root, kind)
    path.write_bytes(content)
    planned = plan(root, max_shard_size=2)
    assert len(planned.pairs) == 1
    if kind.startswith(("plans", "tasks", "models")):
        assert path.read_bytes() != content
    if kind.startswith("staged"):
        assert not path.exists(), "so that it is staged again"
    if kind.startswith("predictions"):
        assert [pair.missing for pair in planned.pairs] != [[]]


def test_scores_go_together_because_one_job_makes_them(root: Path) -> None:
    flip(one(root, "samples/*/*.jsonl"))
    names = {path.relative_to(root / "results").parts[0] for path in delete_damaged(damages(root), root / "results")}
    assert names == {"scores", "samples", "timings"}


@pytest.mark.parametrize("kind", KINDS[:3] + KINDS[4:6])
def test_a_whole_file_in_another_ones_place_is_named(root: Path, kind: str) -> None:
    path = one(root, kind)
    other = path.with_name(path.name.replace(path.stem[-16:], "0123456789abcdef"))
    shutil.copy2(path, other)
    assert str(other) in {damage.problem.where for damage in damages(root)}


def test_an_answer_to_a_request_of_another_shard_is_named_though_all_hashes_fit(root: Path) -> None:
    path = one(root, "predictions/*/*/*.jsonl")
    first, *others = read_predictions(path)[0].values()
    write_predictions(path, [replace(first, id="0" * 64), *others], made())
    (found,) = damages(root)
    assert f"do not match shard {path.stem}" in found.problem.what


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A project whose models and data may be changed."""
    write_model(tmp_path, "m")
    write_dataset(tmp_path, "d", id_column="name", **GENERATE)
    plan(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["weights/m/model.safetensors", "weights/m/tokenizer.json", "data/d.jsonl"])
def test_models_and_data_that_changed_are_named_but_never_removed(own: Path, file: str) -> None:
    flip(own / file)
    (found,) = damages(own)
    assert found.problem.where == str(own / file)
    assert found.problem.fix.startswith("restore it")
    assert delete_damaged([found], own / "results") == []
    assert (own / file).is_file()


def test_an_edit_that_was_planned_is_no_damage(own: Path) -> None:
    write_rows(own / "data/d.jsonl", [{"name": "n", "question": "q", "answer": "a"}])
    assert len(damages(own)) == 1
    plan(own)
    assert len(list(own.glob("results/tasks/d@*.jsonl"))) == 2
    assert damages(own) == []


def test_models_and_data_that_are_elsewhere_cannot_be_checked(own: Path) -> None:
    shutil.rmtree(own / "weights")
    shutil.rmtree(own / "data")
    assert damages(own) == []


def test_the_lock_is_read_and_its_hashes_count(own: Path) -> None:
    shutil.rmtree(own / "results")
    (own / "results").mkdir()
    assert damages(own) == []
    flip(own / "data/d.jsonl")
    assert [damage.problem.where for damage in damages(own)] == [str(own / "data/d.jsonl")]
    truncate(own / "config/benchmark.lock")
    (found,) = damages(own)
    assert "not a valid lock" in found.problem.what
    assert delete_damaged([found], own / "results") == []


def test_converted_weights_are_compared_with_their_checksums(own: Path) -> None:
    folder = own / "results/staged/weights/0123456789abcdef"
    shutil.copytree(own / "weights/m", folder)
    (folder / CHECKSUMS).write_text(pretty_json(checksums(folder)))
    assert damages(own) == []
    flip(folder / "model.safetensors")
    (found,) = damages(own)
    assert found.problem.where == str(folder / "model.safetensors")
    delete_damaged([found], own / "results")
    assert not folder.exists(), "staging takes a folder that is there for whole"


def test_a_file_that_cannot_be_read_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one(own, "models/*.json")
    path.unlink()
    path.mkdir(mode=stat.S_IRWXU)
    (found,) = damages(own)
    assert (found.problem.where, "Is a directory" in found.problem.what) == (str(path), True)


def test_a_model_of_an_edited_configuration_has_a_record_of_its_own(own: Path) -> None:
    change_yaml(own / "config/models/m.yaml", dtype="bfloat16")
    plan(own)
    assert len(list(own.glob("results/models/*.json"))) == 2
    assert damages(own) == []
    assert "sha256" in read_json(one(own, "models/*.json"))


def test_the_same_predictions_give_the_same_bytes_checksums_included(root: Path) -> None:
    files = [one(root, "scores/*/*.json"), one(root, "samples/*/*.jsonl")]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    finish(plan(root, max_shard_size=2))
    assert [file.read_bytes() for file in files] == before
