"""Adapters, quantised weights and weights on several devices: the engine answers as the libraries' own models do."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import tiny_models
from shardmark.engine.tokens import ScoredRow
from shardmark.errors import UserError

NEAR = 1e-4
PROMPTS = [[1, *range(20, 40)], [1, *range(20, 38), 7, 8], [1, 2, 3]]
ROWS = [ScoredRow([*prompt, *scored[:-1]], scored, 0) for prompt in PROMPTS for scored in ([5, 6, 7], [8, 9], [10])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Any:
    """The model as it is, for the CPU."""
    return tiny_models.load_backend(folder)


def load(folder: Path, **settings: Any) -> Any:
    """The backend of a model as a job gets it: planned and staged."""
    from shardmark.engine.stage import stage_model
    from shardmark.engine.transformers.model import TransformersModel

    record = tiny_models.model_record(folder, **settings)
    return TransformersModel(record, stage_model(record, folder / "weights"))


def texts(backend: Any) -> list[tuple[str, int, str]]:
    """What it writes after each prompt."""
    from shardmark.engine.batches import Limit
    from shardmark.engine.generation import GenerateRow

    rows = [GenerateRow(prompt, 8, []) for prompt in PROMPTS]
    found = {id(row): answer for done in backend.generation(Limit()).results(rows) for row, answer in done}
    return [(found[id(row)].text, found[id(row)].tokens, found[id(row)].end) for row in rows]


def greedy(backend: Any, model: Any) -> list[tuple[str, int, str]]:
    """The same by full logits of a model, token by token."""
    import torch

    answers = []
    for prompt in PROMPTS:
        sequence = list(prompt)
        while len(sequence) < len(prompt) + 8:
            with torch.inference_mode():
                token = int(model(torch.tensor([sequence]), use_cache=False).logits[0, -1].argmax())
            if token in backend.ends:
                break
            sequence.append(token)
        written = sequence[len(prompt) :]
        text = backend.tokenizer.decode(written, skip_special_tokens=True)
        answers.append((text, len(written), "length" if len(written) == 8 else "eos"))
    return answers


def values(backend: Any) -> list[float]:
    """The log-likelihoods of ROWS."""
    return [value for value, _ in tiny_models.scores(backend, ROWS)]


def assert_answers_as(backend: Any, model: Any, near: float = NEAR) -> None:
    """Both kinds of answers are those of a model by itself, and prefixes are shared."""
    from shardmark.engine.transformers.sharing import why_not_shared

    assert (why_not_shared(backend.model, backend.window), backend.why_plain) == (None, None)
    assert values(backend) == pytest.approx([tiny_models.plain_score(model, row)[0] for row in ROWS], abs=near)
    if near == NEAR:
        assert texts(backend) == greedy(backend, model)


# Adapters


def lora(**more: Any) -> Any:
    from peft import LoraConfig

    given = {"target_modules": ["q_proj", "down_proj"]} | more
    return LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM", **given)


def ia3() -> Any:
    from peft import IA3Config

    modules = {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}
    return IA3Config(init_ia3_weights=False, task_type="CAUSAL_LM", **modules)


ADAPTERS: dict[str, Callable[[], Any]] = {
    "lora": lora,
    "embeddings": lambda: lora(target_modules=["embed_tokens", "q_proj", "lm_head"]),
    "whole output layer": lambda: lora(modules_to_save=["lm_head"]),
    "ia3": ia3,
}


def adapted(folder: Path, config: Any, out: Path) -> Any:
    """PEFT's own model with a random adapter, which is saved to `out`."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    model.save_pretrained(out)
    return model.eval()


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_model_with_an_adapter_answers_as_in_peft(
    folder: Path, whole: Any, tmp_path: Path, kind: str, need: Callable[[str], str]
) -> None:
    need("peft")
    model = adapted(folder, ADAPTERS[kind](), tmp_path)
    backend = load(folder, adapter=str(tmp_path))
    assert type(backend.model) is type(whole.model)
    assert_answers_as(backend, model)
    assert values(backend) != pytest.approx(values(whole), abs=0.1)


def test_half_an_adapter_is_refused(folder: Path, tmp_path: Path, need: Callable[[str], str]) -> None:
    need("peft")
    from safetensors.torch import load_file, save_file

    adapted(folder, lora(), tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop(next(iter(weights)))
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"model tiny cannot be loaded: Found missing adapter keys"):
        load(folder, adapter=str(tmp_path))


@pytest.mark.parametrize("config", [{"target_modules": ["q_proj"]}, {"layers_to_transform": [0]}])
def test_an_adapter_whose_config_leaves_out_some_of_its_layers_is_refused(
    folder: Path, tmp_path: Path, config: dict[str, Any], need: Callable[[str], str]
) -> None:
    need("peft")
    adapted(folder, lora(), tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(UserError, match=r"the model has no place for \d+ tensors of its adapter, such as base_model"):
        load(folder, adapter=str(tmp_path))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, folder: Path, need: Callable[[str], str]) -> None:
    need("peft")
    other = tiny_models.random_model(tmp_path / "other", "gpt2")
    adapted(folder, lora(), tmp_path / "adapter")
    with pytest.raises(UserError, match=r"model tiny cannot be loaded: Target modules .* not found"):
        load(other, adapter=str(tmp_path / "adapter"))


# Quantised weights


@pytest.mark.parametrize(
    ("kwargs", "near"),
    [({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, NEAR), ({"load_in_8bit": True}, 0.5)],
    ids=["4 bits", "8 bits"],
)
def test_quantised_weights_answer_as_in_transformers(
    folder: Path, whole: Any, kwargs: dict[str, Any], near: float, need: Callable[[str], str]
) -> None:
    """With 8 bits, bitsandbytes rounds inputs, too, and looks at all rows of a batch to do so."""
    need("bitsandbytes")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**kwargs), device_map={"": "cpu"}
    ).eval()
    backend = load(folder, model_kwargs=kwargs)
    assert "bitsandbytes" in type(backend.model.model.layers[0].mlp.up_proj).__module__
    assert_answers_as(backend, model, near)
    assert values(backend) != pytest.approx(values(whole), abs=NEAR)


def test_an_adapter_goes_onto_quantised_weights(folder: Path, tmp_path: Path, need: Callable[[str], str]) -> None:
    need("peft")
    need("bitsandbytes")
    adapted(folder, lora(), tmp_path)
    plain = load(folder, model_kwargs={"load_in_4bit": True})
    backend = load(folder, model_kwargs={"load_in_4bit": True}, adapter=str(tmp_path))
    assert values(backend) != pytest.approx(values(plain), abs=0.1)


# Devices


SPREAD = {"model.embed_tokens": "cpu", "model.layers.0": "disk", "model.layers.1": "cpu", "model.norm": "disk"}
MAPS = {
    "auto": "auto",
    "one device": {"": "cpu"},
    "some on disk": SPREAD | {"model.rotary_emb": "cpu", "lm_head": "disk"},
    "the first on disk": {"model": "disk", "lm_head": "cpu"},
}


@pytest.mark.parametrize("name", MAPS)
def test_where_weights_lie_changes_no_answer(folder: Path, whole: Any, tmp_path: Path, name: str) -> None:
    backend = load(folder, model_kwargs={"device_map": MAPS[name], "offload_folder": str(tmp_path)})
    assert backend.device.type == "cpu"
    assert ("meta" in {p.device.type for p in backend.model.parameters()}) == ("disk" in name)
    assert_answers_as(backend, whole.model)


def test_layers_of_several_devices_leave_the_memory_of_the_fullest(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from shardmark.engine.transformers import memory

    free = {"cuda:0": 30, "cuda:1": 10, "cpu": 99}
    monkeypatch.setattr(memory, "free_bytes", lambda device: free[str(device)])
    monkeypatch.setattr(whole.model, "hf_device_map", {"a": "cuda:0", "b": "cuda:1", "c": "cpu"}, raising=False)
    assert memory.free_for(whole.model) == 10
    monkeypatch.delattr(whole.model, "hf_device_map")
    assert memory.free_for(whole.model) == 99


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_either_attention_of_transformers_gives_the_same(folder: Path, whole: Any, attention: str) -> None:
    assert_answers_as(load(folder, model_kwargs={"attn_implementation": attention}), whole.model)


def test_an_attention_that_takes_no_mask_scores_without_sharing_and_says_so(
    folder: Path, whole: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """flash_attention_2 is one, and needs a GPU; here a name stands for it that gets no mask, either."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("without_mask", sdpa_attention_forward)
    backend = load(folder, model_kwargs={"attn_implementation": "without_mask"})
    assert values(backend) == pytest.approx(values(whole), abs=NEAR)
    assert "its attention without_mask accepts no mask; attn_implementation: sdpa does" in caplog.text
    assert texts(backend) == texts(whole)


# bfloat16 on a CPU


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2", "mixtral"])
def test_bfloat16_on_a_cpu_answers_as_plain_rows_do(tmp_path: Path, architecture: str) -> None:
    """Its own plain rows: the same rounding of weights, sums in another order. And float32's, from further away."""
    import torch

    from shardmark.engine.transformers.sharing import why_not_shared

    folder = tiny_models.random_model(tmp_path, architecture)
    backend, exact = load(folder, dtype="bfloat16"), load(folder)
    assert (backend.model.dtype, backend.device.type) == (torch.bfloat16, "cpu")
    assert (why_not_shared(backend.model, backend.window), backend.why_plain) == (None, None)
    for batch_size in (1, 3, "auto"):
        for row, (value, _) in zip(ROWS, tiny_models.scores(backend, ROWS, batch_size), strict=True):
            assert value == pytest.approx(tiny_models.plain_score(backend.model, row)[0], rel=0.05, abs=0.5)
            assert value == pytest.approx(tiny_models.plain_score(exact.model, row)[0], rel=0.1, abs=1.0)
    assert [tokens for _, tokens, _ in texts(backend)] == [8] * len(PROMPTS)


# GPUs. Nobody has run these yet: no GPU could be had.


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", [*tiny_models.ARCHITECTURES, *tiny_models.UNSHARED])
def test_a_gpu_answers_as_the_cpu_in_float32(tmp_path: Path, architecture: str) -> None:
    folder = tiny_models.random_model(tmp_path, architecture)
    here, there = load(folder), load(folder, num_gpus=1, dtype="float32")
    assert there.device.type == "cuda"
    wanted = tiny_models.scores(here, ROWS)
    for (value, best), (wanted_value, wanted_best) in zip(tiny_models.scores(there, ROWS), wanted, strict=True):
        assert (value, best) == (pytest.approx(wanted_value, abs=1e-3), wanted_best)
    assert texts(there) == texts(here)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "mixtral", "gpt_oss"])
def test_half_precision_on_a_gpu_scores_as_plain_rows_do(tmp_path: Path, architecture: str, dtype: str) -> None:
    """Its own plain rows: the same rounding of weights, sums in another order."""
    import torch

    backend = load(tiny_models.random_model(tmp_path, architecture), num_gpus=1, dtype=dtype)
    assert backend.model.dtype == getattr(torch, dtype)
    for batch_size in (1, 3, "auto"):
        for row, (value, _) in zip(ROWS, tiny_models.scores(backend, ROWS, batch_size), strict=True):
            inputs = torch.tensor([row.inputs], device="cuda")
            with torch.inference_mode():
                logits = backend.model(inputs, use_cache=False).logits[0, -len(row.scored) :].float()
            plain = logits.log_softmax(-1).gather(1, torch.tensor(row.scored, device="cuda")[:, None]).sum()
            assert value == pytest.approx(float(plain), rel=0.05, abs=0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("kwargs", [{"load_in_4bit": True}, {"load_in_8bit": True}], ids=str)
def test_quantised_weights_lie_on_the_gpu(folder: Path, kwargs: dict[str, Any], need: Callable[[str], str]) -> None:
    need("bitsandbytes")
    backend = load(folder, num_gpus=1, model_kwargs=kwargs)
    assert {p.device.type for p in backend.model.parameters()} == {"cuda"}
    assert all(value < 0 for value in values(backend))
    assert len(texts(backend)) == len(PROMPTS)


@pytest.mark.gpu
def test_layers_on_a_gpu_and_on_the_cpu_answer_as_on_the_cpu(folder: Path, whole: Any) -> None:
    spread = dict.fromkeys((*SPREAD, "model.rotary_emb", "lm_head"), 0) | {"model.layers.1": "cpu"}
    backend = load(folder, num_gpus=1, dtype="float32", model_kwargs={"device_map": spread})
    assert values(backend) == pytest.approx(values(whole), abs=1e-3)
    assert texts(backend) == texts(whole)


@pytest.mark.gpu
def test_a_gpu_that_is_too_small_halves_its_batches(folder: Path, whole: Any) -> None:
    """The real error of the allocator, in mid-run: as much as is left is taken away."""
    import torch

    backend = load(folder, num_gpus=1, dtype="float32")
    rows = [ScoredRow([1, *range(n, n + 40)], [5], 0) for n in range(60)]
    wanted = [value for value, _ in tiny_models.scores(whole, rows)]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + (8 << 20)) / total)
    try:
        found = [value for value, _ in tiny_models.scores(backend, rows)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found == pytest.approx(wanted, abs=1e-3)


def test_a_tokenizer_is_loaded_without_searching_for_garbage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemma's takes 1.7 s then, and 2.9 s otherwise."""
    searched: list[bool] = []
    load = AutoTokenizer.from_pretrained

    def loaded(*arguments: Any, **kwargs: Any) -> Any:
        searched.append(gc.isenabled())
        return load(*arguments, **kwargs)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", loaded)
    tiny_models.load_backend(folder)
    assert searched == [False]
    assert gc.isenabled()
