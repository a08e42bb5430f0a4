"""A GGUF model is dequantised once, completely; one is Gemma 3 270M, which comes from PyPI."""

from pathlib import Path
from typing import Any

import pytest

from quick_engine import use_quick_scoring
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.engine.stage import CHECKSUMS, checksums, stage_model
from shardmark.errors import UserError
from shardmark.files import read_json
from shardmark.lock.lock import Lock
from shardmark.plan.models import resolve_model
from shardmark.records.model import ModelRecord
from shardmark.store.hashes import HashCache
from workflow import Project

pytestmark = pytest.mark.slow
CONFIG = {"run": "test", "models": ["gemma3_270m"], "datasets": ["capitals"], "limit": 4}
ROWS = [("France", "Paris"), ("Japan", "Tokyo"), ("Italy", "Rome"), ("Egypt", "Cairo")]


@pytest.mark.gemma
@pytest.mark.timeout(600)
def test_gemma_knows_capitals_and_is_dequantised_once(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "project", **CONFIG)
    use_quick_scoring(project)
    names = [name for _, name in ROWS]
    lines = [f'{{"country": "{c}", "names": {names}, "label": {n}}}'.replace("'", '"') for n, (c, _) in enumerate(ROWS)]
    (project.folder / "capitals.jsonl").write_text("\n".join(lines))
    (project.folder / "config/datasets/capitals.yaml").write_text(
        "source: {file: capitals.jsonl}\nkind: choice\nprompt: The capital of {{ country }} is\n"
        "choices: names\ntarget: label\nmetrics: [accuracy]\n"
    )
    project.run()
    assert [sample["scores"]["accuracy"] for sample in project.samples().values()] == [1.0] * 4
    (weights,) = (project.folder / "results/staged/weights").iterdir()
    assert checksums(weights) == read_json(weights / CHECKSUMS)
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in weights.iterdir()), "results may be shared"
    made = (weights / "model.safetensors").stat().st_mtime_ns
    project.run("--until", "stage_model", "--config", "max_seq_len=64")
    assert len(list((project.folder / "results/staged").glob("gemma3_270m@*.json"))) == 2
    assert (weights / "model.safetensors").stat().st_mtime_ns == made


@pytest.mark.parametrize("rope", [{"rope_type": "default"}, {"rope_type": "linear", "factor": 4.0}])
def test_a_model_from_a_gguf_file_scales_its_rotary_embeddings(tmp_path: Path, rope: dict[str, Any]) -> None:
    import torch
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"num_key_value_heads": 2, "vocab_size": 300, "bos_token_id": 256, "eos_token_id": 257}
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.Qwen2Config(**shape, rope_parameters={"rope_theta": 10000.0, **rope})
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    path = as_gguf(tmp_path / "m.gguf", model)
    record = resolve(tmp_path, path)
    staged = stage_model(record, tmp_path / "weights")
    made = transformers.AutoModelForCausalLM.from_pretrained(staged.model)
    tokens = torch.arange(60)[None]
    with torch.inference_mode():
        assert torch.allclose(made(tokens).logits, model(tokens).logits, atol=1e-4)


def test_a_gguf_file_with_more_tensors_than_its_model_is_refused(tmp_path: Path) -> None:
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.Qwen2Config(**shape, num_key_value_heads=4, vocab_size=300)
    path = as_gguf(tmp_path / "m.gguf", transformers.AutoModelForCausalLM.from_config(config), "blk.0.ffn_up.bias")
    with pytest.raises(UserError, match=r"leaves out blk\.0\.ffn_up\.bias"):
        stage_model(resolve(tmp_path, path), tmp_path / "weights")


def test_a_word_in_the_vocabulary_of_llama_3_is_one_token_and_texts_begin_with_bos(tmp_path: Path) -> None:
    import transformers

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = transformers.LlamaConfig(**shape, num_key_value_heads=4, vocab_size=300)
    path = as_gguf(tmp_path / "m.gguf", transformers.AutoModelForCausalLM.from_config(config), split="llama-bpe")
    record = resolve(tmp_path, path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(stage_model(record, tmp_path / "weights").tokenizer)
    assert tokenizer.convert_ids_to_tokens(tokenizer("xyz").input_ids) == ["<bos>", "xyz"]


def as_gguf(path: Path, model: Any, *more: str, split: str = "qwen2") -> Path:
    """A file of a model, as llama.cpp writes it, with a tokenizer of bytes and with `more` tensors."""
    import gguf
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    config, kind = model.config, model.config.model_type
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config.num_hidden_layers)
    rope = config.rope_parameters
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if "factor" in rope:
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    marks = ["<bos>", "<eos>", "<|endoftext|>"]
    tokens = [*bytes_to_unicode().values(), *marks, "ab", "xyz"]
    tokens += [f"<unused{n}>" for n in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in marks else 1 for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    for name, tensor in model.state_dict().items():
        stem, suffix = name.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", tensor.numpy())
    for name in more:
        writer.add_tensor(name, model.lm_head.weight.detach().numpy()[:, 0].copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def resolve(folder: Path, path: Path) -> ModelRecord:
    config = TransformersConfig(gguf_file=str(path), num_gpus=0)
    return resolve_model(Named("m", "m.yaml", config), Lock(folder / "no.lock"), HashCache(folder / "no.cache"))
