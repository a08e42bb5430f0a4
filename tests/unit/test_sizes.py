"""How many parameters a model has, told by files, by an earlier plan or by the Hub."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from msgspec import UNSET, UnsetType

from projects import model_record, write_record
from shardmark.lock.lock import Lock
from shardmark.plan.sizes import of_folder, with_parameters
from shardmark.records.model import Commit, GgufFile, GgufIdentity, HubRepository, ModelRecord, Source, Staged


def hub(repository: str = "org/m", commit: str = "c", parameters: int | UnsetType = UNSET) -> HubRepository:
    identity = Commit(repository=repository, commit=commit)
    return HubRepository(path="org/m", identity=identity, parameters=parameters)


HUB = hub()


def record(source: Source, name: str = "m") -> ModelRecord:
    return model_record(name, source=source)


def folder_with(folder: Path, files: dict[str, int], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, size in files.items():
        (folder / name).write_bytes(b"0" * size)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def parameters(results: Path, *sources: Source, frozen: bool = False) -> list[int | None]:
    records = [record(source, f"m{n}") for n, source in enumerate(sources)]
    found = with_parameters(records, results, Lock(results / "lock", frozen))
    return [each.parameters for each in found]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the Hub is asked about: it knows 70 parameters of each but org/none, and does not answer for org/away."""
    asked: list[str] = []

    def model_info(self: Any, repository: str, revision: str, timeout: float) -> Any:
        asked.append(repository)
        if repository == "org/away":
            raise ConnectionError
        return SimpleNamespace(safetensors=None if repository == "org/none" else SimpleNamespace(total=70))

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    return asked


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"dtype": "float32"}, 100),
        ({"torch_dtype": "bfloat16"}, 200),
        ({"text_config": {"dtype": "float32"}}, 100),
        ({}, 200),
        ({"quantization_config": {"bits": 4}}, 800),
        ({"quantization_config": {"load_in_4bit": True}}, 800),
        ({"quantization_config": {"quant_method": "fp8"}}, 400),
        ({"quantization_config": {"bits": "odd"}}, 400),
    ],
)
def test_bytes_of_weights_are_parameters_of_the_dtype_in_files(
    tmp_path: Path, config: dict[str, Any], count: int
) -> None:
    files = {"model-1.safetensors": 300, "model-2.safetensors": 100, "pytorch_model.bin": 999, "tokenizer.json": 50}
    assert of_folder(folder_with(tmp_path / "m", files, **config)) == count


def test_a_folder_without_weights_tells_nothing(tmp_path: Path) -> None:
    assert of_folder(folder_with(tmp_path / "m", {"tokenizer.json": 50, "training_args.bin": 9})) is None
    assert of_folder(tmp_path / "gone") is None


def test_a_quantised_file_has_about_a_byte_a_parameter_until_it_is_converted(tmp_path: Path) -> None:
    gguf = GgufFile(path="a.gguf", identity=GgufIdentity(gguf="1"), bytes=60)
    assert parameters(tmp_path, gguf) == [60]
    weights = folder_with(tmp_path / "weights", {"model.safetensors": 400}, dtype="float32")
    write_record(tmp_path / "staged/m0@0.json", Staged(model=str(weights), tokenizer=str(weights)))
    assert parameters(tmp_path, gguf) == [100]


def test_the_hub_is_asked_about_what_is_not_here(tmp_path: Path, questions: list[str]) -> None:
    none = hub("org/none")
    assert parameters(tmp_path, HUB, none) == [70, None]
    write_record(tmp_path / "models/m0@0.json", record(hub(parameters=7)))
    weights = folder_with(tmp_path / "weights", {"model.safetensors": 400})
    write_record(tmp_path / "staged/m1@0.json", Staged(model=str(weights), tokenizer=str(weights)))
    assert parameters(tmp_path, HUB, none) == [7, 200]
    assert questions == ["org/m", "org/none"]


def test_what_the_hub_said_is_in_the_lock_and_counts_for_that_commit(tmp_path: Path, questions: list[str]) -> None:
    key, lock = ("models", "m", "hub"), Lock(tmp_path / "lock")
    with_parameters([record(HUB)], tmp_path, lock)
    lock.note(key, {"repository": "org/m", "commit": "c"})
    lock.save()
    for commit, asked in (("c", 1), ("d", 2)):
        moved = record(hub(commit=commit))
        (found,) = with_parameters([moved], tmp_path, Lock(tmp_path / "lock"))
        assert (found.parameters, len(questions)) == (70, asked)


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path: Path, questions: list[str]) -> None:
    away = hub("org/away")
    assert parameters(tmp_path, away, frozen=True) == [None]
    assert parameters(tmp_path, away, HUB, away) == [None, None, None]
    assert questions == ["org/away"]
