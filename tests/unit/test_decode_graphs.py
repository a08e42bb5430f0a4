"""Decode steps as a GPU needs them: one wait for the device, and nothing in them that a CUDA graph cannot repeat.

There is no GPU here. `meta` stands in for a device whose values the host cannot see; and instead of CUDA, torch's
tracer records the operators of a step, with the memory that they used, and replays them on later steps.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import tiny_models
from shardmark.engine.batches import Limit
from shardmark.engine.generation import Answer, GenerateRow, RunningRow, Scheduler, next_tokens
from shardmark.engine.sampling import GREEDY, Sampling
from shardmark.engine.transformers import continuous_attention, continuous_batch, decode_graphs
from shardmark.engine.transformers.continuous_attention import rounded_up
from shardmark.engine.transformers.continuous_batch import ContinuousBatch
from shardmark.engine.transformers.decode_graphs import DecodeGraphs
from shardmark.engine.transformers.model import open_backend
from shardmark.report.facts import hardware_text


class Transfers(TorchDispatchMode):
    """Counts copies to the device and back. Whatever else needs a value of the device raises an error by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.to_device = self.to_host = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy) and kwargs.get("device"):
            if kwargs["device"].type == "cpu":
                self.to_host += 1
                return torch.zeros(args[0].shape, dtype=args[0].dtype)
            if args[0].device.type == "cpu":
                assert kwargs["non_blocking"]
                self.to_device += 1
        assert func is not torch.ops.aten.copy_.default or args[0].device == args[1].device
        return func(*args, **kwargs)


def on_the_host(make: Callable[..., torch.Tensor], *args: Any, device: Any = None, **kwargs: Any) -> torch.Tensor:
    """torch.tensor, which would wait for its copy to a device."""
    assert device is None
    return make(*args, **kwargs)


def rows_of(count: int, sampling: Sampling) -> list[RunningRow]:
    return [RunningRow(GenerateRow([1, 2, 3 + n], 9, [], sampling=sampling), None, [0]) for n in range(count)]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "mixtral"])
def test_a_step_waits_once_for_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str) -> None:
    from transformers import AutoModelForCausalLM

    config = tiny_models._config(architecture, tiny_models.save_tokenizer(tmp_path), tiny_models.WINDOW)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    monkeypatch.setattr(torch, "tensor", partial(on_the_host, torch.tensor))
    batch = ContinuousBatch(model)
    for sampling, sent in ((GREEDY, 1), (Sampling(min_new_tokens=3), 2), (Sampling(1.0, top_k=5, top_p=0.9), 3)):
        for count in (1, 6):
            batch.clear()
            batch.join(rows_of(count, sampling))
            with Transfers() as transfers:
                assert len(next_tokens(batch.decode_step(), batch.rows)) == count
            assert (transfers.to_host, transfers.to_device) == (1, sent)


# What is replayed


def recorded(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """The operators that ran, with the memory, sizes and numbers of that time: what a CUDA graph holds."""
    graph = make_fx(run)(inputs)
    return lambda: graph(inputs)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of models on a CPU are captured, with the padding of a GPU's, in smaller units."""
    monkeypatch.setattr(decode_graphs, "captured", recorded)
    monkeypatch.setattr(decode_graphs, "_why_not", lambda model: None)
    monkeypatch.setattr(continuous_batch, "COLUMNS", 32)
    monkeypatch.setattr(continuous_attention, "COLUMNS", 32)


def written(model: Any, graphs: DecodeGraphs | None, sampling: Sampling = GREEDY) -> dict[str, Answer]:
    """What rows write that share parts on two levels, or none; the last one joins when another has left."""
    shots, question = [7 + n % 50 for n in range(70)], [90 + n for n in range(40)]
    asked = [([*shots, *question, 150 + n], 24) for n in range(3)]
    asked += [([*shots, 160 + n, 161], 24) for n in range(4)] + [([5], 16), ([6, 7], 16), ([8], 12)]
    rows = [GenerateRow(*one, [], sampling=sampling, request=str(n)) for n, one in enumerate(asked)]
    scheduler = Scheduler(ContinuousBatch(model.model, graphs), model.tokenizer, [], Limit(rows=9))
    return {row.request: answer for done in scheduler.results(rows) for row, answer in done}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_models.load_backend(tiny_models.random_model(tmp_path_factory.mktemp("llama"), window=256))


OTHERS = ("llama", "qwen2", "qwen3", "gpt2", "gemma2", "mixtral", "gpt_oss", "deepseek_v3", "opt")
MORE = [pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize("architecture", ["gemma3", *MORE])
def test_replayed_steps_write_the_same(tmp_path: Path, architecture: str) -> None:
    model = tiny_models.load_backend(tiny_models.random_model(tmp_path, architecture, window=256))
    graphs, replays = DecodeGraphs(model.model), []
    graphs.replayed = lambda: replays.append(1)
    assert written(model, graphs) == written(model, None)
    assert (graphs.fault, graphs.compared) == (None, True)
    assert len(replays) > 20


def fails(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    raise RuntimeError("operation not permitted when stream is capturing")


def repeats(run: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A graph that kept what it should have read."""
    logits = run(inputs)
    return lambda: logits


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(("capture", "reason"), [(fails, "not permitted when"), (repeats, "first graph was off by")])
def test_steps_that_cannot_be_replayed_are_run(
    llama: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capture: Any, reason: str
) -> None:
    monkeypatch.setattr(decode_graphs, "captured", capture)
    graphs = DecodeGraphs(llama.model)
    with caplog.at_level(logging.WARNING):
        assert written(llama, graphs) == written(llama, None) == written(llama, graphs)
    assert caplog.text.count("without CUDA graphs") == caplog.text.count(reason) == 1
    assert not graphs.compared


@pytest.mark.usefixtures("on_a_gpu")
def test_memory_that_runs_out_in_a_capture_is_not_a_fault(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: Any) -> Any:
        monkeypatch.setattr(decode_graphs, "captured", lambda run, inputs: lambda: run(inputs))
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(decode_graphs, "captured", out_of_memory)
    graphs = DecodeGraphs(llama.model)
    assert written(llama, graphs) == written(llama, None)
    assert graphs.compared


def test_models_without_graphs_say_why(llama: Any) -> None:
    assert DecodeGraphs(llama.model).fault == "it is not on a GPU"
    assert DecodeGraphs(llama.model, "cuda_graphs is false").fault == "cuda_graphs is false"


def test_the_model_s_file_turns_graphs_off_and_the_report_tells_of_them(
    tmp_path: Path, llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_models.random_model(tmp_path)
    record = tiny_models.model_record(folder, cuda_graphs=False)
    backend = open_backend(record, tiny_models.staged(folder), lambda: None)
    assert backend.model._graphs.fault == "cuda_graphs is false"
    assert backend.methods == {}
    monkeypatch.setattr(llama._graphs, "compared", True)
    assert hardware_text(llama.methods) == "no GPU, decoding with CUDA graphs"


@given(st.integers(1, 5000), st.sampled_from([1, 32, 256]))
def test_rounding_up_wastes_at_most_a_quarter(number: int, least: int) -> None:
    found = rounded_up(number, least)
    assert number <= found == rounded_up(found, least)
    assert found < number + max(least, number / 4 + 1)


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3", "gpt_oss"])
def test_a_gpu_replays_what_it_runs(tmp_path: Path, architecture: str) -> None:
    folder = tiny_models.random_model(tmp_path, architecture, window=256)
    model = tiny_models.load_backend(folder, num_gpus=1, dtype="float32")
    graphs = DecodeGraphs(model.model)
    assert written(model, graphs) == written(model, None)
    assert (graphs.fault, graphs.compared) == (None, True)


@pytest.mark.gpu
def test_a_gpu_is_waited_for_once(tmp_path: Path) -> None:
    model = tiny_models.load_backend(tiny_models.random_model(tmp_path), num_gpus=1)
    batch = ContinuousBatch(model.model)
    batch.join(rows_of(3, Sampling(1.0, top_p=0.9)))
    batch.decode_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch.decode_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
