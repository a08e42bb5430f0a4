"""Staging brings weights and tokenizer to where jobs load them, and says where that is."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import tiny_models
from shardmark.engine.stage import stage_model
from shardmark.errors import UserError
from shardmark.records.model import Commit, HubRepository, Staged

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("model"))


REPOSITORIES = {
    "org/both": ["model-1.safetensors", "pytorch_model.bin", "consolidated.safetensors"],
    "org/older": ["pytorch_model.bin"],
    "org/consolidated": ["consolidated.safetensors"],
}


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """What is asked of the Hub: repository, commit and patterns of files that are not wanted."""
    asked = []

    def snapshot_download(repository: str, revision: str, ignore_patterns: list[str]) -> str:
        asked.append((repository, revision, ignore_patterns))
        return str(tmp_path / repository)

    def list_repo_files(self: Any, repository: str, revision: str) -> list[str]:
        return REPOSITORIES.get(repository, [])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", list_repo_files)
    return asked


def on_the_hub(repository: str) -> HubRepository:
    return HubRepository(path=repository, identity=Commit(repository=repository, commit=COMMIT))


def test_a_local_model_stays_where_it_is(folder: Path, tmp_path: Path) -> None:
    staged = stage_model(tiny_models.model_record(folder), tmp_path / "weights")
    assert staged == Staged(model=str(folder), tokenizer=str(folder))
    assert not (tmp_path / "weights").exists()


def test_a_relative_path_stays_so_that_a_project_can_move(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    record = tiny_models.model_record(Path(folder.name))
    assert stage_model(record, tmp_path).model == folder.name


def test_a_tokenizer_of_its_own_is_staged_beside_the_weights(folder: Path, tmp_path: Path) -> None:
    tiny_models.save_tokenizer(tmp_path)
    staged = stage_model(tiny_models.model_record(folder, tokenizer_path=str(tmp_path)), tmp_path)
    assert staged == Staged(model=str(folder), tokenizer=str(tmp_path))


def test_an_adapter_is_staged_beside_the_weights(
    folder: Path, tmp_path: Path, downloads: list[tuple[str, str, list[str]]]
) -> None:
    record = replace(tiny_models.model_record(folder), adapter=on_the_hub("org/lora"))
    assert stage_model(record, tmp_path).adapter == str(tmp_path / "org/lora")
    assert [(repository, commit) for repository, commit, _ in downloads] == [("org/lora", COMMIT)]


@pytest.mark.parametrize(
    ("repository", "kwargs", "doubled"),
    [
        ("org/both", {}, False),
        ("org/both", {"use_safetensors": False}, True),
        ("org/older", {}, True),
        ("org/consolidated", {}, True),
        ("org/unlisted", {}, True),
    ],
)
def test_weights_that_are_there_twice_are_downloaded_once(
    repository: str,
    kwargs: dict[str, Any],
    doubled: bool,
    folder: Path,
    tmp_path: Path,
    downloads: list[tuple[str, str, list[str]]],
) -> None:
    record = replace(tiny_models.model_record(folder, model_kwargs=kwargs), source=on_the_hub(repository))
    stage_model(record, tmp_path)
    ((_, _, unwanted),) = downloads
    assert ("*.bin" not in unwanted, "consolidated*" not in unwanted) == (doubled, doubled)


def test_an_adapter_among_downloaded_weights_is_refused(
    folder: Path, tmp_path: Path, downloads: list[tuple[str, str, list[str]]]
) -> None:
    (tmp_path / "org/both").mkdir(parents=True)
    (tmp_path / "org/both/adapter_config.json").write_text("{}")
    record = replace(tiny_models.model_record(folder), source=on_the_hub("org/both"))
    with pytest.raises(UserError, match=r"tiny.yaml: path: org/both holds an adapter"):
        stage_model(record, tmp_path)


def test_the_pinned_commit_is_downloaded_without_what_is_not_loaded(
    folder: Path, tmp_path: Path, downloads: list[tuple[str, str, list[str]]]
) -> None:
    places = {"source": on_the_hub("org/model"), "tokenizer": on_the_hub("org/words")}
    record = replace(tiny_models.model_record(folder), **places)
    staged = stage_model(record, tmp_path / "weights")
    assert staged == Staged(model=str(tmp_path / "org/model"), tokenizer=str(tmp_path / "org/words"))
    assert [(repository, commit) for repository, commit, _ in downloads] == [
        ("org/model", COMMIT),
        ("org/words", COMMIT),
    ]
    assert "*.gguf" in downloads[0][2]
    assert "*.safetensors" not in downloads[0][2]


@pytest.mark.usefixtures("downloads")  # else the real Hub would be asked for its files, and again after each failure
def test_a_download_that_fails_names_the_models_file_and_the_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def snapshot_download(*_: Any, **__: Any) -> str:
        raise OSError("No space left on device")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    record = replace(tiny_models.model_record(folder), source=on_the_hub("org/model"))
    what = rf"config/models/tiny.yaml: path: cannot download org/model@{COMMIT}: .*No space left on device"
    with pytest.raises(UserError, match=what):
        stage_model(record, tmp_path)
