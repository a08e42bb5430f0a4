"""Weights that lack tensors, or do not fit their tokenizer, are refused before anything is inferred."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

import tiny_models
from asked import choice, rolling
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.engine.stage import stage_model
from shardmark.engine.transformers.weights import tokenizer_kwargs
from shardmark.errors import UserError
from shardmark.records.model import GgufFile, GgufIdentity, ModelRecord, Staged

Tensors = dict[str, Any]
Change = Callable[[Tensors], Tensors]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of each architecture, made once."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in made:
            made[architecture] = tiny_models.random_model(tmp_path_factory.mktemp(architecture), architecture)
        return made[architecture]

    return folder


def stage(record: ModelRecord, weights: Path) -> Staged:
    """Stage a model that waits for a GPU: for the CPU, staging leaves the comparison to loading."""
    return stage_model(replace(record, settings=record.settings.model_copy(update={"num_gpus": 1})), weights)


def changed(source: Path, out: Path, change: Change, kind: str = "safetensors") -> Path:
    """A copy of a model with other weights, in one of the ways in which they are kept."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, out)
    tensors = change({name: value.clone() for name, value in load_file(out / "model.safetensors").items()})
    (out / "model.safetensors").unlink()
    if kind == "safetensors":
        save_file(tensors, out / "model.safetensors", {"format": "pt"})
    elif kind == "bin":
        torch.save(tensors, out / "pytorch_model.bin")
    else:
        names = sorted(tensors)
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        files = [f"model-{n}-of-2.safetensors" for n in (1, 2)]
        for half, file in zip(halves, files, strict=True):
            save_file({name: tensors[name] for name in half}, out / file, {"format": "pt"})
        index = {name: file for half, file in zip(halves, files, strict=True) for name in half}
        (out / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return out


def wrapped(prefix: str) -> Change:
    return lambda tensors: {prefix + name: value for name, value in tensors.items()}


def without(*parts: str) -> Change:
    return lambda tensors: {name: value for name, value in tensors.items() if not any(part in name for part in parts)}


def wider(tensors: Tensors) -> Tensors:
    import torch

    return {n: torch.cat([v, v]) if n.endswith("mlp.up_proj.weight") else v for n, v in tensors.items()}


def renamed(old: str, new: str) -> Change:
    return lambda tensors: {name.replace(old, new): value for name, value in tensors.items()}


LACKING = {
    "torch.compile": (
        wrapped("_orig_mod."),
        r"lack 21 of 21 tensors \(lm_head.weight, ",
        "'_orig_mod.'.*torch.compile",
    ),
    "data parallel": (wrapped("module."), "lack 21 of 21 tensors", "'module.'.*DataParallel"),
    "both": (wrapped("module._orig_mod."), "lack 21 of 21 tensors", "names with"),
    "another wrapper": (wrapped("policy."), "lack 21 of 21 tensors", "names with 'policy.'"),
    "compiled layers": (renamed("layers.1.", "layers.1._orig_mod."), r"lack 9 of 21 .*and 4 more", "'_orig_mod.'"),
    "no head": (without("lm_head"), r"lack 1 of 21 tensors \(lm_head.weight\)", "tie_word_embeddings"),
    "no second layer": (without("layers.1."), r"lack 9 of 21 .*model.layers.1.input_layernorm", "copy the model again"),
    "some lost": (without("mlp.", "q_proj"), "lack 8 of 21", "copy the model again"),
    "another architecture": (
        renamed("model.layers", "transformer.h"),
        "lack 18 of 21",
        "does not belong to these weights|names with",
    ),
    "other sizes": (
        wider,
        r"2 of 21 tensors have another shape .*is \[48, 16\] in the weights",
        "the sizes in config.json",
    ),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "safetensors") for name in LACKING),
        ("torch.compile", "bin"),
        ("some lost", "shards"),
        ("no head", "bin"),
    ],
)
def test_tensors_that_would_be_random_are_refused_by_name(
    folders: Callable[[str], Path], tmp_path: Path, name: str, kind: str
) -> None:
    change, said, fix = LACKING[name]
    folder = changed(folders("llama"), tmp_path / "model", change, kind)
    record = tiny_models.model_record(folder)
    for make in (lambda: stage(record, tmp_path), lambda: tiny_models.load_backend(folder)):
        with pytest.raises(UserError, match=rf"config/models/tiny.yaml: path: model tiny: .*{said}") as caught:
            make()
        (problem,) = caught.value.problems
        assert re.search(fix, problem.fix)


def test_a_model_for_the_cpu_is_compared_when_it_is_loaded(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = changed(folders("llama"), tmp_path / "model", without("lm_head"))
    assert stage_model(tiny_models.model_record(folder), tmp_path).model == str(folder)
    with pytest.raises(UserError, match="lack 1 of 21 tensors"):
        tiny_models.load_backend(folder)


def test_a_setting_cannot_ask_for_random_tensors(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = changed(folders("llama"), tmp_path / "model", wider)
    with pytest.raises(UserError, match="2 of 21 tensors have another shape"):
        tiny_models.load_backend(folder, model_kwargs={"ignore_mismatched_sizes": True})


@pytest.mark.parametrize(
    ("architecture", "part"),
    [
        ("mixtral", "experts.2.w1"),
        ("deepseek_v3", "experts.0."),
        ("gpt_oss", "gate_up_proj_bias"),
        ("gpt2", "h.1.attn"),
    ],
)
def test_what_is_renamed_or_fused_on_loading_is_missed_too(
    folders: Callable[[str], Path], tmp_path: Path, architecture: str, part: str
) -> None:
    folder = changed(folders(architecture), tmp_path / "model", without(part))
    with pytest.raises(UserError, match="model tiny"):
        tiny_models.load_backend(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_shard_that_is_not_there_is_named(folders: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors, "shards")
    record = tiny_models.model_record(folder)
    (folder / "model.safetensors.index.json").rename(folder / f"{name}.index.json")
    (folder / "model-2-of-2.safetensors").unlink()
    for make in (lambda: tiny_models.model_record(folder), lambda: stage(record, tmp_path)):
        with pytest.raises(UserError, match=r"is not a model: it has no model-2-of-2\.safetensors"):
            make()


def test_a_shard_without_a_tensor_that_the_index_names_lacks_it(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors, "shards")
    kept = without("layers.0.mlp")(load_file(folder / "model-1-of-2.safetensors"))
    save_file(kept, folder / "model-1-of-2.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lack 3 of 21 tensors \(model.layers.0.mlp.down_proj"):
        stage(tiny_models.model_record(folder), tmp_path)


@pytest.mark.parametrize("architecture", [*tiny_models.ARCHITECTURES, *tiny_models.PECULIAR, *tiny_models.UNSHARED])
def test_whole_weights_pass_though_tensors_are_tied_renamed_or_fused(
    folders: Callable[[str], Path], tmp_path: Path, architecture: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage(tiny_models.model_record(folders(architecture)), tmp_path)
    assert "not compared" not in caplog.text


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_either_of_two_tied_tensors_will_do(folders: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    swapped = renamed("model.embed_tokens", "lm_head")
    folder = changed(folders("qwen2"), tmp_path / "model", swapped, kind)
    stage(tiny_models.model_record(folder), tmp_path)
    assert tiny_models.load_backend(folder).model.lm_head.weight.std() > 0.1


def test_tensors_that_a_model_declares_optional_may_be_missing(
    folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    folder = changed(folders("llama"), tmp_path / "model", without("norm.weight"))
    monkeypatch.setattr(LlamaForCausalLM, "_keys_to_ignore_on_load_missing", [r"norm\.weight"])
    stage(tiny_models.model_record(folder), tmp_path)
    tiny_models.load_backend(folder)


def test_tensors_that_a_model_has_no_use_for_are_no_fault(folders: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    more = {"v_head.summary.weight": torch.ones(2), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    more["model.layers.0.self_attn.masked_bias"] = torch.ones(1)
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors | more)
    stage(tiny_models.model_record(folder), tmp_path)


@pytest.mark.parametrize("part", ["mlp.up_proj.weight_scale_inv", "self_attn.q_norm.weight", "extra_norm.weight"])
def test_a_config_of_another_kind_of_model_is_refused(
    folders: Callable[[str], Path], tmp_path: Path, part: str
) -> None:
    import torch

    more = {f"model.layers.0.{part}": torch.ones(4)}
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors | more)
    with pytest.raises(UserError, match=rf"its config.json leaves out 1 tensors of its weights .*{part}"):
        tiny_models.load_backend(folder)


@pytest.mark.parametrize("part", ["a layer", "biases"])
def test_a_config_that_leaves_out_a_part_of_the_model_is_refused(
    folders: Callable[[str], Path], tmp_path: Path, part: str
) -> None:
    import torch

    biases = {f"model.layers.{n}.self_attn.o_proj.bias": torch.ones(16) for n in (0, 1)}
    more = biases if part == "biases" else {}
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors | more)
    config = json.loads((folder / "config.json").read_text())
    layers = 2 if part == "biases" else 1
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": layers, "layer_types": None}))
    said = r"leaves out 2 tensors .*o_proj\.bias" if more else r"leaves out 9 tensors .*model\.layers\.1\."
    for make in (
        lambda: stage(tiny_models.model_record(folder), tmp_path),
        lambda: tiny_models.load_backend(folder),
    ):
        with pytest.raises(UserError, match=rf"config/models/tiny.yaml: path: model tiny: its config.json {said}"):
            make()
    tiny_models.load_backend(folder, model_kwargs={"num_hidden_layers": layers})  # it is meant so


def test_what_cannot_be_compared_while_staging_is_left_to_loading(
    folders: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "no_such_model"}))
    stage(tiny_models.model_record(folder), tmp_path)
    assert "not compared with its model before it is loaded" in caplog.text


# Tokenizers


def with_tokens(folder: Path, *tokens: str, special: bool = False) -> None:
    """Add tokens to the tokenizer of a model, and no rows to its embeddings."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("special", [False, True])
def test_tokens_without_a_row_in_the_embeddings_are_refused_by_name(
    folders: Callable[[str], Path], tmp_path: Path, special: bool
) -> None:
    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors)
    with_tokens(folder, "<tool>", "<call>", special=special)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    record = tiny_models.model_record(folder)
    named = rf"\({size} '<tool>', {size + 1} '<call>'\)"
    said = f"tokenizer and weights do not match: the weights have {size} rows of embeddings, and 2 .*{named}"
    for make in (lambda: stage(record, tmp_path), lambda: tiny_models.load_backend(folder)):
        with pytest.raises(UserError, match=said):
            make()


def test_a_token_that_only_the_class_of_a_tokenizer_adds_is_refused_where_a_text_has_it(
    folders: Callable[[str], Path],
) -> None:
    folder = folders("qwen2")
    backend = tiny_models.load_backend(folder)
    token = tiny_models.token_id(backend.tokenizer, "<|endoftext|>")
    assert token == backend.rows
    engine = tiny_models.local_backend(folder, backend)
    good = choice(("a", "b"))
    assert [p.id for done in engine.answer({"good": good}) for p in done] == ["good"]
    for bad in (choice(("a", "<|endoftext|>")), rolling("<|endoftext|>")):
        with pytest.raises(UserError, match=rf"request bad: it has token {token} \('<.endoftext.>'\)"):
            list(engine.answer({"bad": bad}))


def test_a_tokenizer_of_another_model_is_named_by_its_own_key(folders: Callable[[str], Path], tmp_path: Path) -> None:
    tiny_models.save_tokenizer(tmp_path)
    with_tokens(tmp_path, "<tool>")
    with pytest.raises(UserError, match=r"tiny.yaml: tokenizer_path: model tiny: tokenizer and weights do not match"):
        stage(tiny_models.model_record(folders("llama"), tokenizer_path=str(tmp_path)), tmp_path)


def test_a_tokenizer_that_transformers_makes_of_a_gguf_file_is_to_be_replaced(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    """It has <|endoftext|> beyond the tokens of Llama 3, for example."""
    from shardmark.engine.transformers.model import TransformersModel

    folder = changed(folders("llama"), tmp_path / "model", lambda tensors: tensors)
    with_tokens(folder, "<|endoftext|>")
    gguf = GgufFile(path="m.gguf", identity=GgufIdentity(gguf="0"), bytes=1)
    with pytest.raises(UserError, match="original tokenizer as tokenizer_path"):
        TransformersModel(replace(tiny_models.model_record(folder), source=gguf), tiny_models.staged(folder))


def test_rows_without_a_token_are_padding(folders: Callable[[str], Path], tmp_path: Path) -> None:
    tiny_models.save_tokenizer(tmp_path, pad=False)
    record = tiny_models.model_record(folders("llama"), tokenizer_path=str(tmp_path))
    assert stage(record, tmp_path).tokenizer == str(tmp_path)


def test_mistrals_tokenizers_are_the_same_where_mistral_common_is_installed() -> None:
    """With it, transformers would read tekken.json instead of tokenizer.json, and ignore the chat template."""
    assert tokenizer_kwargs(TransformersConfig(path="m"))["mistral_format"] is False
    assert tokenizer_kwargs(TransformersConfig(path="m", tokenizer_kwargs={"mistral_format": True}))["mistral_format"]
