"""A model's digest changes with everything that can change an answer, and with nothing else."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from projects import problems, safetensors_file, write_weights
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.errors import Problem, UserError
from shardmark.files import file_sha256
from shardmark.lock import lock
from shardmark.lock.lock import Lock
from shardmark.plan.models import resolve_model
from shardmark.records.model import Commit, Folder, GgufIdentity, ModelRecord
from shardmark.store.hashes import HashCache


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "weights")


def resolve(folder: Path, name: str = "m", **settings: Any) -> ModelRecord:
    """The record of a model, with the lock and the cache of hashes of a project."""
    model = Named(name, "config/models/m.yaml", TransformersConfig.model_validate({"num_gpus": 0} | settings))
    hashes = HashCache(folder / "hashes.json")
    record = resolve_model(model, Lock(folder / "benchmark.lock"), hashes)
    hashes.save()
    return record


def digest_of(path: Path, **settings: Any) -> str:
    return resolve(path.parent, path=str(path), **settings).digest


def refusal(folder: Path, **settings: Any) -> tuple[str, str]:
    """The key and what is wrong with it."""
    (problem,) = problems(resolve, folder, **settings)
    assert problem.where == "config/models/m.yaml"
    assert problem.fix
    return problem.key, problem.what


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", safetensors_file(b"weightS")),
        ("tokenizer.json", b'{"version": "1.1"}'),
        ("config.json", b'{"rope_theta": 1}'),
        ("chat_template.jinja", b"{{ messages }}"),
        ("vocab.tiktoken", b"IQ== 0"),
        ("modeling.py", b"pass"),
        ("adapter_model.bin", b"more"),
    ],
)
def test_a_file_that_changes_answers_changes_the_digest(weights: Path, file: str, content: bytes) -> None:
    before = digest_of(weights)
    (weights / file).write_bytes(content)
    assert digest_of(weights) != before


SETTINGS = [
    {"dtype": "bfloat16"},
    {"dtype": "float16"},
    {"max_seq_len": 64},
    {"max_out_len": 64},
    {"model_kwargs": {"sliding_window": 8}},
    {"tokenizer_kwargs": {"use_fast": False}},
    {"trust_remote_code": True},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_setting_that_changes_answers_changes_the_digest(weights: Path, settings: dict[str, Any]) -> None:
    assert digest_of(weights, **settings) != digest_of(weights)


def test_all_these_digests_differ_from_each_other(weights: Path) -> None:
    assert len({digest_of(weights, **settings) for settings in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 7},
        {"batch_padding": False},
        {"pack_weights": True},
        {"cpus": 9},
        {"num_gpus": 2},
        {"description": "other"},
        {"model_kwargs": {"device_map": "auto"}},
        {"model_kwargs": {"max_memory": {0: "10GiB", "cpu": "1GiB"}, "low_cpu_mem_usage": True}},
        {"tokenizer_kwargs": {"padding_side": "left"}},
        {"name": "renamed"},
    ],
    ids=str,
)
def test_a_setting_that_changes_no_answer_keeps_the_digest(weights: Path, settings: dict[str, Any]) -> None:
    assert digest_of(weights, dtype="float32", **settings) == digest_of(weights, dtype="float32")


def test_the_same_files_elsewhere_are_the_same_model(weights: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(weights, tmp_path / "other" / "place")
    link = tmp_path / "link"
    link.symlink_to(weights)
    assert digest_of(copy) == digest_of(weights) == digest_of(link)


def test_neither_touching_nor_describing_a_model_changes_it(weights: Path) -> None:
    before = digest_of(weights)
    for file in weights.iterdir():
        os.utime(file)
    (weights / "README.md").write_text("A model.")
    (weights / "logo.png").write_bytes(b"png")
    (weights / ".cache").mkdir()
    assert digest_of(weights) == before


def test_a_weight_that_changes_in_one_byte_is_noticed_though_hashes_are_remembered(weights: Path) -> None:
    before, file = digest_of(weights), weights / "model.safetensors"
    assert (weights.parent / "hashes.json").exists()
    status = file.stat()
    while file.stat().st_ctime_ns == status.st_ctime_ns:
        file.write_bytes(safetensors_file(b"Weights"))
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_of(weights) != before


def test_auto_is_bfloat16_on_gpus_and_float32_without(weights: Path) -> None:
    assert digest_of(weights) == digest_of(weights, dtype="float32") != digest_of(weights, dtype="bfloat16")
    assert digest_of(weights, num_gpus=1) == digest_of(weights, dtype="bfloat16")
    assert resolve(weights.parent, path=str(weights), num_gpus=4).dtype == "bfloat16"


def test_another_tokenizer_is_another_model(weights: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("{}")
    before = digest_of(weights, tokenizer_path=str(tokenizer))
    assert before != digest_of(weights)
    (tokenizer / "tokenizer.json").write_text('{"a": 1}')
    assert digest_of(weights, tokenizer_path=str(tokenizer)) != before


def test_the_record_says_where_the_files_are(weights: Path) -> None:
    record = resolve(weights.parent, path=str(weights), batch_size=3)
    source = record.source
    assert isinstance(source, Folder)
    assert (record.name, record.file, record.settings.batch_size) == ("m", "config/models/m.yaml", 3)
    assert (source.path, record.tokenizer) == (str(weights), None)
    assert source.identity["model.safetensors"] == file_sha256(weights / "model.safetensors")


def test_a_tilde_is_the_home_folder(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(weights.parent))
    assert digest_of(Path("~/weights").expanduser()) == resolve(weights.parent, path="~/weights").digest


# What is no model


@pytest.mark.parametrize("path", ["/no/such/model", "./gone", "../gone", "~/gone", "models/of/mine"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, path: str) -> None:
    key, what = refusal(tmp_path, path=path)
    assert key == "path"
    assert what.startswith("no folder ")


def test_a_file_is_no_folder(weights: Path) -> None:
    file = weights / "model.safetensors"
    assert refusal(weights.parent, path=str(file)) == ("path", f"{file} is a file")


def test_a_model_with_an_encoder_is_refused(weights: Path) -> None:
    (weights / "config.json").write_text('{"model_type": "bart", "is_encoder_decoder": true}')
    key, what = refusal(weights.parent, path=str(weights))
    assert (key, what.startswith(f"{weights} is not a model: it has an encoder")) == ("path", True)


@pytest.mark.parametrize(
    ("absent", "said"), [("config.json", "it has no config.json"), ("model.safetensors", "it has no weights")]
)
def test_a_folder_that_lacks_something_is_no_model(weights: Path, absent: str, said: str) -> None:
    (weights / absent).unlink()
    key, what = refusal(weights.parent, path=str(weights))
    assert (key, what.startswith(f"{weights} is not a model: {said}")) == ("path", True)


def test_every_part_that_the_index_of_weights_names_must_be_there(weights: Path) -> None:
    (weights / "model.safetensors").rename(weights / "model-1-of-3.safetensors")
    parts = {"a": "model-1-of-3.safetensors", "b": "model-2-of-3.safetensors", "c": "model-3-of-3.safetensors"}
    index = weights / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    _, what = refusal(weights.parent, path=str(weights))
    assert what.endswith("it has no model-2-of-3.safetensors; it has no model-3-of-3.safetensors")
    index.write_text("{")
    assert refusal(weights.parent, path=str(weights))[1].endswith("its model.safetensors.index.json cannot be read")
    index.write_text(json.dumps({"weight_map": {"a": "model-1-of-3.safetensors"}}))
    assert resolve(weights.parent, path=str(weights)).digest


def test_damaged_files_are_told_before_anything_runs(weights: Path) -> None:
    (weights / "config.json").write_text("{broken")
    content = (weights / "model.safetensors").read_bytes()
    (weights / "model.safetensors").write_bytes(content[:-1])
    key, what = refusal(weights.parent, path=str(weights))
    assert key == "path"
    assert "config.json is not valid JSON" in what
    assert "model.safetensors is damaged or cut off" in what


def test_a_model_needs_a_tokenizer_beside_it_or_elsewhere(weights: Path, tmp_path: Path) -> None:
    (weights / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    key, what = refusal(weights.parent, path=str(weights))
    assert (key, "it has no tokenizer" in what) == ("path", True)
    assert refusal(weights.parent, path=str(weights), tokenizer_path=str(weights))[0] == "tokenizer_path"
    assert resolve(weights.parent, path=str(weights), tokenizer_path=str(tmp_path)).digest
    (weights / "tekken.json").write_text("{}")
    assert "is only in tekken.json" in refusal(weights.parent, path=str(weights))[1]


def test_what_cuts_and_pads_a_tokenizers_output_changes_nothing(weights: Path) -> None:
    sides = {"padding_side": "left", "truncation": "left", "truncation_side": "left"}
    assert digest_of(weights, tokenizer_kwargs=sides) == digest_of(weights)


def test_cutting_on_the_right_is_refused_because_the_engine_cuts_on_the_left(weights: Path) -> None:
    with pytest.raises(ValueError, match="truncation is right, but prompts are always cut on the left"):
        TransformersConfig(path=str(weights), tokenizer_kwargs={"truncation": "right"})


@pytest.mark.parametrize("kwargs", ["model_kwargs", "tokenizer_kwargs"])
def test_a_key_of_the_hub_is_refused(kwargs: str) -> None:
    with pytest.raises(
        ValueError, match=f"{kwargs}.token seems to hold a key, .*: set the environment variable HF_TOKEN"
    ):
        TransformersConfig.model_validate({"path": "m", "num_gpus": 0, kwargs: {"token": "hf_a"}})


@pytest.mark.parametrize("kwargs", ["model_kwargs", "tokenizer_kwargs"])
@pytest.mark.parametrize("key", ["subfolder", "revision", "gguf_file"])
def test_kwargs_lead_to_no_other_files(kwargs: str, key: str) -> None:
    with pytest.raises(ValueError, match=rf"{kwargs}.{key} reads files other than .*: give"):
        TransformersConfig.model_validate({"path": "org/name", kwargs: {key: "x"}})


def test_a_tokenizer_that_is_not_there_is_told(weights: Path) -> None:
    assert refusal(weights.parent, path=str(weights), tokenizer_path="./gone") == ("tokenizer_path", "no folder ./gone")


# Adapters, and packages that not everybody has


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The optional packages that are said to be here."""
    names = {"peft", "bitsandbytes"}
    monkeypatch.setattr("shardmark.plan.model_folders.find_spec", lambda name: name if name in names else None)
    return names


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (folder / "adapter_model.safetensors").write_bytes(safetensors_file(b"adapter"))
    return folder


def test_an_adapter_makes_another_model_of_its_content(weights: Path, adapter: Path, installed: set[str]) -> None:
    bare, one = digest_of(weights), digest_of(weights, adapter=str(adapter))
    assert digest_of(weights, adapter=str(shutil.copytree(adapter, adapter.parent / "copy"))) == one
    (adapter / "adapter_model.safetensors").write_bytes(safetensors_file(b"Adapter"))
    other = digest_of(weights, adapter=str(adapter))
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 3}')
    assert len({bare, one, other, digest_of(weights, adapter=str(adapter))}) == 4


def test_a_repository_that_is_not_found_is_told_under_its_own_key(
    weights: Path, monkeypatch: pytest.MonkeyPatch, installed: set[str]
) -> None:
    def refuse(kind: str, repository: str, revision: str | None, where: str, **_: Any) -> str:
        raise UserError(Problem(where, "path", f"no {repository}", "correct it"))

    monkeypatch.setattr(lock, "ask_hub", refuse)
    for key in ("adapter", "tokenizer_path"):
        assert refusal(weights.parent, path=str(weights), **{key: "org/gone"}) == (key, "no org/gone")


def test_an_adapter_of_the_hub_is_pinned(weights: Path, installed: set[str]) -> None:
    pinned(weights.parent, model={"org/lora@main": "abc", "org/lora@v2": "def"})
    first = resolve(weights.parent, path=str(weights), adapter="org/lora")
    second = resolve(weights.parent, path=str(weights), adapter="org/lora", adapter_revision="v2")
    assert first.adapter
    assert first.adapter.identity == Commit(repository="org/lora", commit="abc")
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "it has no adapter_config.json"),
        ("{", "adapter_config.json is not valid JSON"),
        ("{}", "adapter_config.json names no peft_type"),
        ('{"peft_type": "PROMPT_TUNING"}', "its peft_type PROMPT_TUNING changes the input instead of the layers"),
        ('{"peft_type": "XLORA"}', "its layers (XLORA) depend on the whole prompt"),
        ('{"peft_type": "LORA", "alora_invocation_tokens": [3]}', "its layers (LORA) depend on the whole prompt"),
    ],
)
def test_what_is_no_adapter_for_the_engine_is_told(
    weights: Path, adapter: Path, installed: set[str], config: str | None, said: str
) -> None:
    file = adapter / "adapter_config.json"
    file.unlink() if config is None else file.write_text(config)
    key, what = refusal(weights.parent, path=str(weights), adapter=str(adapter))
    assert (key, what.startswith(f"{adapter} is not a usable adapter: {said}")) == ("adapter", True)


def test_an_adapter_without_whole_weights_is_told(weights: Path, adapter: Path, installed: set[str]) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "is damaged or cut off" in refusal(weights.parent, path=str(weights), adapter=str(adapter))[1]
    file.unlink()
    _, what = refusal(weights.parent, path=str(weights), adapter=str(adapter))
    assert what.endswith("it has no adapter_model.safetensors or adapter_model.bin")


def test_an_adapter_among_the_weights_is_refused(weights: Path) -> None:
    """transformers loads it where peft is installed, and else does not."""
    (weights / "adapter_config.json").write_text("{}")
    key, what = refusal(weights.parent, path=str(weights))
    assert (key, "it holds an adapter (adapter_config.json): name a folder" in what) == ("path", True)


QUANTISED = {"quantization_config": {"load_in_4bit": True}}


@pytest.mark.parametrize(
    ("settings", "key", "package"),
    [
        ({"adapter": "adapter"}, "adapter", "peft"),
        ({"model_kwargs": {"load_in_8bit": True}}, "model_kwargs.quantization_config", "bitsandbytes"),
        ({"model_kwargs": QUANTISED}, "model_kwargs.quantization_config", "bitsandbytes"),
        (
            {"model_kwargs": {"attn_implementation": "flash_attention_2"}},
            "model_kwargs.attn_implementation",
            "flash-attn",
        ),
    ],
)
def test_a_package_that_is_missing_is_told_before_anything_runs(
    weights: Path, adapter: Path, installed: set[str], settings: dict[str, Any], key: str, package: str
) -> None:
    installed.clear()
    given = settings | ({"adapter": str(adapter)} if "adapter" in settings else {})
    what = f"needs the Python package {package}, which is not installed"
    assert refusal(weights.parent, path=str(weights), **given) == (key, what)


def test_weights_that_were_stored_quantised_need_the_package_too(weights: Path, installed: set[str]) -> None:
    (weights / "config.json").write_text('{"quantization_config": {"quant_method": "bitsandbytes"}}')
    assert resolve(weights.parent, path=str(weights)).digest
    installed.clear()
    assert refusal(weights.parent, path=str(weights))[0] == "path"


@pytest.mark.parametrize(("method", "package"), [("gptq", "gptqmodel"), ("awq", "gptqmodel"), ("aqlm", "aqlm")])
def test_packages_for_quantised_weights_are_told_before_anything_runs(
    weights: Path, monkeypatch: pytest.MonkeyPatch, method: str, package: str
) -> None:
    monkeypatch.setattr("shardmark.plan.model_folders.missing_distributions", lambda names: names[-1:])
    (weights / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": method}}))
    assert refusal(weights.parent, path=str(weights)) == (
        "path",
        f"needs the Python package {package}, which is not installed",
    )


def test_quantised_weights_are_another_model_however_it_is_written(weights: Path, installed: set[str]) -> None:
    plain, four = digest_of(weights), digest_of(weights, model_kwargs=QUANTISED)
    assert digest_of(weights, model_kwargs={"load_in_4bit": True, "load_in_8bit": False}) == four
    assert digest_of(weights, model_kwargs={"load_in_4bit": False}) == plain
    dtypes = ("bfloat16", "torch.bfloat16")
    more = [digest_of(weights, model_kwargs=QUANTISED | {"bnb_4bit_compute_dtype": dtype}) for dtype in dtypes]
    assert len({plain, four, *more, digest_of(weights, model_kwargs={"load_in_8bit": True})}) == 4


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"load_in_8bit": True, "load_in_4bit": True}, "load_in_8bit and load_in_4bit exclude each other"),
        (QUANTISED | {"load_in_4bit": False}, "load_in_4bit differs from quantization_config.load_in_4bit"),
        ({"bnb_4bit_quant_type": "nf4"}, "bnb_4bit_quant_type has no effect without load_in_8bit or load_in_4bit"),
        ({"quantization_config": "4bit"}, "quantization_config is not a mapping"),
    ],
)
def test_a_quantisation_that_contradicts_itself_is_told(kwargs: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TransformersConfig(path="weights", model_kwargs=kwargs)


# GGUF


def test_a_gguf_file_is_known_by_its_content_alone(tmp_path: Path) -> None:
    for name, content in (("a.gguf", b"GGUF1"), ("b.gguf", b"GGUF1"), ("c.gguf", b"GGUF2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (resolve(tmp_path, gguf_file=str(tmp_path / f"{name}.gguf")) for name in "abc")
    assert a.digest == b.digest != c.digest
    assert a.source.identity == GgufIdentity(gguf=file_sha256(tmp_path / "a.gguf"))


def test_a_package_may_bring_the_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    (tmp_path / "weights_of_mine.py").write_text(f"def assemble(): return {str(tmp_path / 'a.gguf')!r}")
    record = resolve(tmp_path, gguf_package="weights_of_mine")
    assert record.digest == resolve(tmp_path, gguf_file=str(tmp_path / "a.gguf")).digest
    assert record.source.path == str(tmp_path / "a.gguf")


def test_a_gguf_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert refusal(tmp_path, gguf_file="gone.gguf") == ("gguf_file", "no file gone.gguf")


def test_a_package_that_is_not_installed_is_told(tmp_path: Path) -> None:
    key, what = refusal(tmp_path, gguf_package="no_such_package_here")
    assert (key, what) == ("gguf_package", "the package no_such_package_here is not installed")


def test_a_package_without_a_model_is_told(tmp_path: Path) -> None:
    key, what = refusal(tmp_path, gguf_package="json")
    assert (key, what) == ("gguf_package", "the package json contains no GGUF file: it has no function assemble()")


def test_a_package_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "weights_that_fail.py").write_text("def assemble(): raise OSError('part 3 is damaged')")
    assert refusal(tmp_path, gguf_package="weights_that_fail") == ("gguf_package", "part 3 is damaged")


# The lock (it has tests of its own, and so has asking the Hub)


def pinned(folder: Path, **pins: Any) -> Path:
    (folder / "benchmark.lock").write_text(json.dumps(pins))
    return folder


def test_a_model_of_the_hub_is_the_commit_that_the_lock_pins(tmp_path: Path) -> None:
    pinned(tmp_path, model={"org/name@main": "abc", "org/name@v2": "def", "copy/name@main": "abc"})
    main, again, v2, copy = (
        resolve(tmp_path, path="org/name"),
        resolve(tmp_path, path="org/name", revision="main"),
        resolve(tmp_path, path="org/name", revision="v2"),
        resolve(tmp_path, path="copy/name"),
    )
    assert main.source.identity == Commit(repository="org/name", commit="abc")
    assert main.digest == again.digest
    assert len({record.digest for record in (main, v2, copy)}) == 3
