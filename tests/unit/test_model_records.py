"""The record of a model: its bytes are those of earlier versions, and what these wrote is read."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from projects import model_record, problems, write_weights
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.files import pretty_json, sealed, sha256
from shardmark.lock.lock import Lock
from shardmark.plan.models import resolve_model
from shardmark.plan.sizes import with_parameters
from shardmark.records.base import convert, find_sealed, read_sealed_record, to_json
from shardmark.records.model import Folder, HubFile, HubRepository, ModelRecord, Staged
from shardmark.store.hashes import HashCache

TEMPLATE = {"round": {"user": {"end": "\n"}, "assistant": {}}}
OWN = {"path": "weights", "num_gpus": 0, "tokenizer_path": "weights", "model_kwargs": {"a": "ä"}}
PINNED = [
    (
        {**OWN, "meta_template": TEMPLATE},
        "7c110634d6677051",
        "ed0509708c8d75383e51868d3c31d7c6234f0babd76e7e55f1fc7d0ff5d32476",
    ),
    (
        {"gguf_file": "m.gguf"},
        "e43682d1f3d6b19c",
        "ba7da7f5ca9cf29b84f83c1a8c1ae84cd77c6d36af56f213b52e020519bd178a",
    ),
]
"Settings, the model's digest and the SHA-256 of what is in its file, as they were before records had classes."

LATER = {
    *("apply_chat_template", "template_date"),
    *("reasoning", "reasoning_tags", "reasoning_tokens", "request_seconds", "long_answers"),
    *("pack_weights", "cuda_graphs"),
}
"Settings that came afterwards."


def planned(**settings: Any) -> ModelRecord:
    """The record that a plan writes of a model below the current folder."""
    write_weights(Path("weights"))
    Path("m.gguf").write_bytes(b"GGUF")
    model, lock = Named("m", "config/models/m.yaml", TransformersConfig.model_validate(settings)), Lock(Path("lock"))
    (record,) = with_parameters([resolve_model(model, lock, HashCache(Path("hashes")))], Path("results"), lock)
    return record


@pytest.mark.parametrize(("settings", "digest", "content"), PINNED)
def test_digests_and_files_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], digest: str, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    record = planned(**settings)
    text = pretty_json(sealed(to_json(record)))
    written = to_json(record)
    written["settings"] = {key: value for key, value in written["settings"].items() if key not in LATER}
    assert (record.digest, sha256(written)) == (digest, content)
    Path("m.json").write_text(text)
    assert find_sealed(Path("m.json"), ModelRecord) == read_sealed_record(Path("m.json"), ModelRecord) == record


def test_settings_that_an_earlier_version_took_are_read() -> None:
    """It knew keys that are gone, lacked others, and had no rule against two sources or half a template."""
    written = to_json(model_record())
    del written["adapter"], written["settings"]["slurm"], written["source"]["parameters"]
    half = {"begin": "", "end": "", "round": {"user": {"begin": "", "end": "", "gone": 1}}}
    written["settings"] |= {"gone": 1, "gguf_file": "a.gguf", "meta_template": half}
    record = convert(written, ModelRecord)
    assert (record.adapter, record.parameters, record.settings.slurm.runtime) == (None, None, None)
    assert (record.settings.path, record.settings.gguf_file) == ("org/m", "a.gguf")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "written by a newer Shardmark"),
        ({"nmae": "m"}, "nmae"),
        ({"source": {"kind": "endpoint", "path": "http://host"}}, "endpoint"),
        ({"source": {"kind": "local", "path": "weights"}}, "identity"),
        ({"settings": {"path": "org/m", "num_gpus": "none"}}, "num_gpus"),
    ],
)
def test_what_is_no_record_is_an_error_that_names_file_and_key(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps(sealed(to_json(model_record()) | change)))
    (problem,) = problems(read_sealed_record, file, ModelRecord)
    assert problem.where == str(file)
    assert said in problem.what
    assert "\n" not in problem.what
    assert find_sealed(file, ModelRecord) is None


def test_what_was_staged_is_written_as_before() -> None:
    assert to_json(Staged(model="a", tokenizer="b")) == {"model": "a", "tokenizer": "b"}
    assert list(to_json(Staged(model="a", tokenizer="b", adapter="c"))) == ["model", "tokenizer", "adapter"]
    assert Staged(model="a", tokenizer="a", adapter="c").folders == ["a", "c"]


def test_a_tokenizer_is_beside_the_weights_unless_it_has_a_place_of_its_own() -> None:
    place = Folder(path="words", identity={})
    assert isinstance(model_record().words, HubRepository)
    assert (model_record(tokenizer=place).words, len(model_record(tokenizer=place).locations)) == (place, 2)


def test_what_was_only_learnt_of_a_place_is_no_part_of_what_scores_tell() -> None:
    source = model_record().source
    assert isinstance(source, HubRepository)
    known = replace(source, files={"config.json": HubFile(size=2, git="a")}, parameters=5)
    assert known.bare() == source.bare()
    assert to_json(known.bare()) == {"kind": "hub", "path": source.path, "identity": to_json(source.identity)}
    assert to_json(HubFile(size=2, git="a")) == {"size": 2, "git": "a"}
