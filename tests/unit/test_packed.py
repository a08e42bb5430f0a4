"""Weights that oneDNN has packed: other last digits at most, no copy of them left, for texts where they are faster."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny_models
from shardmark.engine.tokens import ScoredRow
from shardmark.errors import UserError

NEAR = 1e-4
AMD, INTEL, OTHER = ("AuthenticAMD", "AVX512"), ("GenuineIntel", "AVX512"), ("", "DEFAULT")
ROWS = [ScoredRow([1, *range(20, 20 + n), 5, 6], [5, 6, 7], 0) for n in (1, 9, 30)]
PROMPTS = [[1, *range(20, 40)], [1, *range(20, 38), 7, 8], [1, 2, 3]]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of any size are worth it, as those of models for tests are small."""
    from shardmark.engine.transformers import packed

    monkeypatch.setattr(packed, "LEAST_OUTPUTS", 1)
    monkeypatch.setattr(packed, "LEAST_INPUTS", 1)


def on(monkeypatch: pytest.MonkeyPatch, processor: tuple[str, str]) -> None:
    from shardmark.engine.transformers import packed

    monkeypatch.setattr(packed, "processor", lambda: processor)


def packed_layers(model: Any) -> int:
    from shardmark.engine.transformers.packed import PackedLinear

    return sum(isinstance(module, PackedLinear) for module in model.modules())


def dense_layers(model: Any) -> int:
    import torch

    return sum(type(module) is torch.nn.Linear for module in model.modules())


def written(backend: Any) -> list[str]:
    from shardmark.engine.batches import Limit
    from shardmark.engine.generation import GenerateRow

    rows = [GenerateRow(prompt, 8, []) for prompt in PROMPTS]
    found = {id(row): answer.text for done in backend.generation(Limit()).results(rows) for row, answer in done}
    return [found[id(row)] for row in rows]


def packed_after_writing(folder: Path, **settings: Any) -> int:
    backend = tiny_models.load_backend(folder, **settings)
    assert written(backend)
    return packed_layers(backend.model)


@pytest.mark.parametrize("architecture", [*tiny_models.ARCHITECTURES, *tiny_models.PECULIAR])
@pytest.mark.usefixtures("small")
def test_packed_models_answer_as_others_do(tmp_path: Path, architecture: str) -> None:
    folder = tiny_models.random_model(tmp_path, architecture)
    plain = tiny_models.load_backend(folder, pack_weights=False)
    backend = tiny_models.load_backend(folder, pack_weights=True)
    assert (packed_layers(backend.model) > 0, packed_layers(plain.model)) == (True, 0)
    wanted = [tiny_models.plain_score(plain.model, row) for row in ROWS]
    found = tiny_models.scores(backend, ROWS)
    assert [value for value, _ in found] == pytest.approx([value for value, _ in wanted], abs=NEAR)
    assert [best for _, best in found] == [best for _, best in wanted]
    assert written(backend) == written(plain)


@pytest.mark.usefixtures("small")
def test_no_dense_weight_stays_but_an_embedding_s(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from shardmark.engine.transformers.packed import pack_linears

    model = AutoModelForCausalLM.from_pretrained(tiny_models.random_model(tmp_path, "qwen2")).eval()
    layer, tied = model.model.layers[0].mlp.up_proj, model.lm_head.weight
    before, dense = layer.weight.detach().clone(), weakref.ref(layer.weight)
    assert tied is model.model.embed_tokens.weight
    del layer
    layers = pack_linears(model)
    assert dense() is None
    assert dense_layers(model) == 0
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)
    assert model.model.embed_tokens.weight is tied
    assert torch.equal(model.lm_head.weight, tied)
    layers.unpack()
    assert packed_layers(model) == 0
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)
    assert model.lm_head.weight is tied


@pytest.mark.usefixtures("small")
def test_layers_and_weights_that_are_one_stay_one() -> None:
    import torch
    from torch import nn

    from shardmark.engine.transformers.packed import pack_linears

    model = nn.Module()
    model.one, model.same_weight = nn.Linear(4, 6), nn.Linear(4, 6)
    model.same_weight.weight = model.one.weight
    model.again = nn.ModuleList([model.one, nn.Linear(4, 6)])
    inputs = torch.randn(3, 4)
    layers = (model.one, model.same_weight, *model.again)
    wanted = [layer(inputs) for layer in layers]
    packed = pack_linears(model)
    for layer, outputs in zip((model.one, model.same_weight, *model.again), wanted, strict=True):
        torch.testing.assert_close(layer(inputs), outputs)
    assert model.one._packed is model.same_weight._packed is model.again[0]._packed
    packed.unpack()
    assert (model.one, model.same_weight, *model.again) == layers
    assert model.one.weight is model.same_weight.weight
    assert [torch.equal(layer(inputs), outputs) for layer, outputs in zip(layers, wanted, strict=True)] == [True] * 4


@pytest.mark.usefixtures("small")
def test_a_model_that_cannot_be_packed_whole_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torch import nn

    from shardmark.engine.transformers import packed

    def full(*given: Any) -> None:
        raise MemoryError

    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 4))
    before = [layer.weight.detach().clone() for layer in model]
    whole = packed.PackedLayers.pack
    packs = iter([whole, full])
    monkeypatch.setattr(packed.PackedLayers, "pack", lambda *given: next(packs)(*given))
    with pytest.raises(MemoryError):
        packed.pack_linears(model)
    assert packed_layers(model) == 0
    assert [torch.equal(layer.weight, weight) for layer, weight in zip(model, before, strict=True)] == [True, True]


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 0, 8), (0, 8), (8,), (1, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_inputs_of_any_shape(shape: tuple[int, ...], bias: bool) -> None:
    import torch

    from shardmark.engine.transformers.packed import ROWS as PACKED_FOR
    from shardmark.engine.transformers.packed import PackedLinear

    dense = torch.nn.Linear(8, 17, bias=bias)
    layer = PackedLinear(torch.ops.mkldnn._reorder_linear_weight(dense.weight.detach(), PACKED_FOR), dense.bias)
    for inputs in (
        torch.randn(shape),
        torch.randn(*shape[:-1], 16)[..., ::2],
        torch.randn(shape[::-1]).permute(*range(len(shape))[::-1]),
    ):
        torch.testing.assert_close(layer(inputs), dense(inputs))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.usefixtures("small")
def test_an_adapter_lies_beside_packed_weights(tmp_path: Path, dora: bool, need: Callable[[str], str]) -> None:
    """DoRA reads the weights, and so leaves them as they are."""
    need("peft")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tiny_models.random_model(tmp_path / "model")
    torch.manual_seed(3)
    config = LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "down_proj"], use_dora=dora)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    model.save_pretrained(tmp_path / "adapter")
    backend = tiny_models.load_backend(folder, pack_weights=True)
    from shardmark.engine.transformers.model import TransformersModel
    from shardmark.records.model import Staged

    record = tiny_models.model_record(folder, adapter=str(tmp_path / "adapter"), pack_weights=True)
    staged = Staged(model=str(folder), tokenizer=str(folder), adapter=str(tmp_path / "adapter"))
    adapted = TransformersModel(record, staged)
    layer = adapted.model.model.layers[0].self_attn
    assert (type(layer.q_proj.base_layer).__name__, type(layer.k_proj).__name__) == (
        "Linear" if dora else "PackedLinear",
        "PackedLinear",
    )
    wanted = [tiny_models.plain_score(model.eval(), row)[0] for row in ROWS]
    assert [value for value, _ in tiny_models.scores(adapted, ROWS)] == pytest.approx(wanted, abs=NEAR)
    assert [value for value, _ in tiny_models.scores(backend, ROWS)] != pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize(
    ("processor", "setting", "packs"),
    [
        (AMD, "auto", True),
        (AMD, False, False),
        (INTEL, "auto", True),
        (OTHER, "auto", False),
        (OTHER, True, True),
    ],
)
@pytest.mark.usefixtures("small")
def test_the_processor_decides_unless_the_model_s_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processor: tuple[str, str], setting: Any, packs: bool
) -> None:
    on(monkeypatch, processor)
    folder = tiny_models.random_model(tmp_path)
    backend = tiny_models.load_backend(folder, pack_weights=setting)
    dense = tiny_models.scores(tiny_models.load_backend(folder, pack_weights=False), ROWS)
    for _ in range(2):
        written(backend)
        assert bool(packed_layers(backend.model)) == packs
        told = tiny_models.local_backend(folder, backend).methods.get("products")
        assert told == ("oneDNN with packed weights" if packs else None)
        scores = [score for _, score in sorted(pair for done in backend.score(ROWS) for pair in done)]
        assert bool(packed_layers(backend.model)) == (setting is True)
        assert setting is True or scores == dense  # to the last bit


def test_small_layers_gain_nothing_and_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, AMD)
    assert packed_after_writing(tiny_models.random_model(tmp_path)) == 0


@pytest.mark.usefixtures("small")
def test_other_precisions_and_devices_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, AMD)
    folder = tiny_models.random_model(tmp_path)
    for settings in ({"dtype": "bfloat16"}, {"model_kwargs": {"device_map": "auto"}}):
        assert packed_after_writing(folder, **settings) == 0


@pytest.mark.usefixtures("small")
def test_a_torch_without_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from shardmark.engine.transformers import packed

    def gone(*_: Any) -> Any:
        raise AttributeError("no such operator")

    folder = tiny_models.random_model(tmp_path)
    on(monkeypatch, AMD)
    monkeypatch.setattr(packed.PackedLinear, "forward", gone)
    assert packed_after_writing(folder) == 0
    assert "weights are not packed" in caplog.text
    with pytest.raises(UserError, match="this build of torch has no such operators"):
        tiny_models.load_backend(folder, pack_weights=True)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"num_gpus": 1, "dtype": "float32"}, "num_gpus is 1"),
        ({"dtype": "bfloat16"}, "dtype bfloat16"),
        ({"model_kwargs": {"load_in_8bit": True}}, "model_kwargs has quantization_config"),
        ({"model_kwargs": {"device_map": "auto"}}, "model_kwargs has device_map"),
    ],
)
def test_what_cannot_be_packed_is_refused(settings: dict[str, Any], why: str) -> None:
    from shardmark.config.backends.transformers import TransformersConfig

    given = {"path": "m", "num_gpus": 0, **settings}
    TransformersConfig(**given)
    with pytest.raises(ValueError, match=why):
        TransformersConfig(**given, pack_weights=True)


def test_what_was_read_of_a_file_is_let_go_and_can_be_read_again(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from shardmark.engine.transformers.mapped_files import MappedFiles

    save_file({"a": torch.arange(1 << 20).float()}, tmp_path / "weights.safetensors")
    mapped = load_file(tmp_path / "weights.safetensors")["a"]
    total = float(mapped.sum())
    files = MappedFiles()
    assert files.let_go(mapped)
    assert float(mapped.sum()) == total
    assert not files.let_go(torch.ones(1 << 20))
    mapped[5] = 7.0  # what is written is in no file
    assert not MappedFiles().let_go(mapped)
    assert float(mapped[5]) == 7.0
