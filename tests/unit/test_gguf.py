"""What transformers leaves out of a GGUF file is set, or the file is refused."""

from pathlib import Path
from typing import Any

import pytest

from shardmark import layout
from shardmark.config import Named
from shardmark.config.backends.transformers import TransformersConfig
from shardmark.errors import UserError
from shardmark.lock.lock import Lock
from shardmark.plan.gguf import MisreadError, missed_settings, missed_tokenizer, read_header
from shardmark.plan.models import check_dequantised, resolve_model
from shardmark.records.base import to_json
from shardmark.records.model import GgufFile, ModelRecord
from shardmark.store.hashes import HashCache

SIZES = {"context_length": 131072, "embedding_length": 64, "block_count": 2, "attention.head_count": 4}
FACTORS = [1.0, 1.0, 1.0, 1.0, 2.6945, 8.0, 8.0, 8.0]
"Those of Llama 3.1 for heads of 16."


def write(
    path: Path, kind: str, tensors: dict[str, list[float]] | None = None, token: str = "<x>", **values: Any
) -> Path:
    """A file with a header, in which "__" stands for a dot, and tensors."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(path, kind)
    writer.add_array("tokenizer.ggml.tokens", ["a", "bb", token])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 4])
    own = {f"{kind}.{key}": value for key, value in SIZES.items()}
    for key, value in (own | {key.replace("__", "."): value for key, value in values.items()}).items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    for name, numbers in (tensors or {}).items():
        writer.add_tensor(name, np.array(numbers, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def missed(path: Path, kind: str, tensors: dict[str, list[float]] | None = None, **values: Any) -> dict[str, Any]:
    return missed_settings(read_header(write(path / "m.gguf", kind, tensors, **values)))


def scaled(kind: str, factor: float = 4.0, **values: Any) -> dict[str, Any]:
    return {"llama__rope__scaling__type": kind, "llama__rope__scaling__factor": factor, **values}


@pytest.mark.parametrize(
    ("kind", "values", "settings"),
    [
        ("llama", {"llama__rope__freq_base": 5e5}, {}),
        ("llama", scaled("none"), {}),
        ("llama", scaled("linear"), {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
        (
            "llama",
            scaled("yarn", llama__rope__scaling__original_context_length=64),
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
        ),
        ("phi3", {"phi3__rope__dimension_count": 12}, {"rope_parameters": {"partial_rotary_factor": 0.75}}),
        ("phi3", {"phi3__rope__dimension_count": 16, "phi3__attention__sliding_window": 9}, {"sliding_window": 9}),
        ("starcoder2", {"starcoder2__rope__freq_base": 1e6}, {"rope_parameters": {"rope_theta": 1e6}}),
        ("gemma2", {"gemma2__attention__key_length": 256, "gemma2__attention__sliding_window": 9}, {}),
        ("gemma2", {"gemma2__block_count": 46}, {"query_pre_attn_scalar": 16}),
        (
            "gemma2",
            {"gemma2__attention__key_length": 256, "gemma2__final_logit_softcapping": 5.0},
            {"final_logit_softcapping": 5.0},
        ),
        (
            "gemma3",
            {"gemma3__attention__key_length": 256, "gemma3__final_logit_softcapping": 5.0},
            {"final_logit_softcapping": 5.0},
        ),
        ("llama", {"llama__attention__causal": True, "llama__expert_count": 0, "llama__logit_scale": 0.0}, {}),
    ],
)
def test_what_transformers_leaves_out_is_set(
    tmp_path: Path, kind: str, values: dict[str, Any], settings: dict[str, Any]
) -> None:
    assert missed(tmp_path, kind, **values) == settings


def test_llama_3_is_known_by_its_factors(tmp_path: Path) -> None:
    found = missed(tmp_path, "llama", {"rope_freqs.weight": FACTORS}, llama__rope__freq_base=5e5)["rope_parameters"]
    assert (found["rope_type"], found["factor"], found["original_max_position_embeddings"]) == ("llama3", 8.0, 8192)


@pytest.mark.parametrize(("kind", "factors"), [("llama", [1.0, 1.0]), ("gemma4", [1.0, 1e30])])
def test_factors_that_change_nothing_are_left_out(tmp_path: Path, kind: str, factors: list[float]) -> None:
    assert missed(tmp_path, kind, {"rope_freqs.weight": factors}) == {}


def test_long_factors_are_read(tmp_path: Path) -> None:
    tensors = {"rope_factors_long.weight": [2.0, 4.0], "rope_factors_short.weight": [1.0, 1.5]}
    settings = missed(tmp_path, "phi3", tensors, phi3__rope__scaling__original_context_length=4096)
    assert settings["original_max_position_embeddings"] == 4096
    found = settings["rope_parameters"]
    assert (found["long_factor"], found["short_factor"], found["factor"]) == ([2.0, 4.0], [1.0, 1.5], 32.0)


@pytest.mark.parametrize(
    ("values", "tensors", "named"),
    [
        (scaled("longrope"), {}, "llama.rope.scaling.type (longrope)"),
        ({"llama__attention__sliding_window": 9}, {}, "llama.attention.sliding_window (9)"),
        ({"llama__logit_scale": 0.5}, {}, "llama.logit_scale (0.5)"),
        ({"llama__ssm__dt_b_c_rms": True}, {}, "llama.ssm.dt_b_c_rms (True)"),
        ({"llama__attention__causal": False}, {}, "llama.attention.causal (False)"),
        ({"llama__newer": "x"}, {}, "llama.newer ('x')"),
        ({"split__count": 3}, {}, "one of 3 parts"),
        ({}, {"rope_freqs.weight": [1.0, 2.0]}, "rope_freqs.weight"),
        ({}, {"rope_factors_long.weight": [1.0], "rope_factors_short.weight": [1.0]}, "lacks sizes"),
        ({"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__pre": "starcoder"}, {}, "tokenizer.ggml.pre (starcoder)"),
        ({"tokenizer__ggml__model": "llama", "tokenizer__ggml__add_space_prefix": False}, {}, "add_space_prefix"),
    ],
)
def test_what_cannot_be_set_is_refused(
    tmp_path: Path, values: dict[str, Any], tensors: dict[str, list[float]], named: str
) -> None:
    path = write(tmp_path / "m.gguf", "llama", tensors, **values)
    with pytest.raises(UserError) as refused:
        resolve(tmp_path, path)
    (problem,) = refused.value.problems
    assert problem.key == "gguf_file"
    assert named in problem.what


def bpe(split: str, **values: Any) -> dict[str, Any]:
    return {"tokenizer__ggml__model": "gpt2", "tokenizer__ggml__pre": split, **values}


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        ("llama", bpe("gpt-2"), None),
        ("qwen3", bpe("deepseek-r1-qwen"), None),
        ("qwen3", bpe("llama-bpe"), "tokenizer.ggml.pre (llama-bpe)"),
        ("gpt2", {"tokenizer__ggml__model": "gpt2"}, None),
        ("llama", {"tokenizer__ggml__model": "gpt2"}, "tokenizer.ggml.pre (missing)"),
        ("gemma3", bpe("gpt-2"), "tokenizer.ggml.pre (gpt-2)"),
        ("llama", {"tokenizer__ggml__model": "t5"}, "tokenizer.ggml.model (t5)"),
        ("mamba", bpe("mpt", tokenizer__ggml__add_bos_token=True), "tokenizer.ggml.add_bos_token (True)"),
        ("qwen2", {"tokenizer__ggml__model": "llama"}, "tokenizer.ggml.model (llama)"),
        ("gemma3", {"tokenizer__ggml__model": "llama", "tokenizer__ggml__add_space_prefix": False}, None),
        ("gemma3", {"tokenizer__ggml__model": "llama", "tokenizer__ggml__add_space_prefix": True}, "add_space_prefix"),
        ("llama", bpe("gpt-2", token="<|é|>"), None),
        ("llama", bpe("gpt-2", token="<｜User｜>"), "tokenizer.ggml.token_type (of '<｜User｜>')"),
        ("llama", bpe("gpt-2", token="    "), "tokenizer.ggml.token_type (of '    ')"),
    ],
)
def test_texts_are_split_as_the_header_says(
    tmp_path: Path, kind: str, values: dict[str, Any], named: str | None
) -> None:
    path = write(tmp_path / "m.gguf", kind, **values)
    if named is None:
        resolve(tmp_path, path)
        return
    with pytest.raises(UserError) as refused:
        resolve(tmp_path, path)
    assert named in refused.value.problems[0].what
    assert "tokenizer_path" in refused.value.problems[0].fix


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (bpe("llama-bpe"), {"ignore_merges": True}),
        (bpe("tekken", tokenizer__ggml__bos_token_id=1), {"ignore_merges": True, "add_bos_token": True}),
        (
            bpe("llama-bpe", tokenizer__ggml__bos_token_id=1, tokenizer__ggml__add_bos_token=False),
            {"ignore_merges": True},
        ),
        (bpe("gpt-2", tokenizer__ggml__bos_token_id=1), {}),
    ],
)
def test_what_the_splitting_of_llama_3_implies_is_set(
    tmp_path: Path, values: dict[str, Any], settings: dict[str, bool]
) -> None:
    path = write(tmp_path / "m.gguf", "llama", **values)
    assert missed_tokenizer(read_header(path)) == settings
    identity = to_json(resolve(tmp_path, path).source.identity)
    assert identity.get("tokenizer", {}) == settings


@pytest.mark.parametrize(("kind", "key"), [("gemma3", "rope__freq_base_swa"), ("gemma4", "rope__freq_base")])
def test_a_value_that_transformers_presumes_must_be_the_one_in_the_file(tmp_path: Path, kind: str, key: str) -> None:
    with pytest.raises(MisreadError, match=key.replace("__", ".")):
        missed(tmp_path, kind, **{f"{kind}__{key}": 500.0})


def test_weights_that_were_made_of_a_file_earlier_must_have_all_of_its_tensors(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    bias = {"blk.0.attn_q.bias": [1.0] * 4}
    record = resolve(tmp_path, write(tmp_path / "m.gguf", "llama", {"token_embd.weight": [1.0] * 8, **bias}))
    assert isinstance(record.source, GgufFile)
    folder = layout.WEIGHTS.folder(tmp_path, weights=record.source.identity.folder)
    hashes = HashCache(tmp_path / "no.cache")
    check_dequantised(record, tmp_path, hashes)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"model.embed_tokens.weight": np.ones(8)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=r"leaves out blk\.0\.attn_q\.bias"):
        check_dequantised(record, tmp_path, hashes)


def test_only_what_is_left_out_makes_another_model(tmp_path: Path) -> None:
    """All other models keep their digests, and so their answers."""
    plain, linear = write(tmp_path / "a.gguf", "llama"), write(tmp_path / "b.gguf", "llama", **scaled("linear"))
    assert to_json(resolve(tmp_path, plain).source.identity).keys() == {"gguf"}
    assert to_json(resolve(tmp_path, linear).source.identity).keys() == {"gguf", "settings"}


def resolve(folder: Path, path: Path, **settings: Any) -> ModelRecord:
    config = TransformersConfig(gguf_file=str(path), num_gpus=0, **settings)
    return resolve_model(Named("m", "m.yaml", config), Lock(folder / "no.lock"), HashCache(folder / "no.cache"))
