"""What vLLM is started with: a model's settings in its words, and an environment of its own."""

import os
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

from shardmark.config.backends.vllm import VllmConfig
from shardmark.engine.vllm.arguments import LEAST_CACHE, engine_arguments, prepare_environment
from shardmark.records.model import Staged

SHAPE = LlamaConfig(
    hidden_size=64, num_hidden_layers=3, num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=1 << 20
)
TOKEN = 2 * 3 * 2 * 8 * 4
"Bytes of the keys and values of a token in float32."
INVARIANT = "VLLM_BATCH_INVARIANT"


def arguments(window: int = 128, free: int = 1 << 40, **settings: Any) -> dict[str, Any]:
    config = VllmConfig.model_validate({"path": "m", "num_gpus": 0} | settings)
    return engine_arguments(config, Staged(model="/weights", tokenizer="/words"), window, SHAPE, free)


def test_settings_are_said_in_words_of_vllm() -> None:
    found = arguments(num_gpus=4, batch_size=7, dtype="float16", trust_remote_code=True)
    assert (found["model"], found["tokenizer"], found["max_model_len"]) == ("/weights", "/words", 128)
    assert (found["tensor_parallel_size"], found["max_num_seqs"], found["dtype"]) == (4, 7, "float16")
    assert (found["trust_remote_code"], found["generation_config"]) == (True, "vllm")
    assert {"enforce_eager", "kv_cache_memory_bytes"}.isdisjoint(found)
    assert arguments(num_gpus=4, vllm_kwargs={"pipeline_parallel_size": 2})["tensor_parallel_size"] == 2
    assert arguments()["tensor_parallel_size"] == 1
    assert arguments(num_gpus=1)["dtype"] == "bfloat16"


def test_what_a_file_gives_stands_over_what_is_chosen() -> None:
    assert arguments()["enforce_eager"] is True
    assert arguments(vllm_kwargs={"enforce_eager": False})["enforce_eager"] is False
    assert arguments(vllm_kwargs={"kv_cache_memory_bytes": 5})["kv_cache_memory_bytes"] == 5
    assert "kv_cache_memory_bytes" not in arguments(vllm_kwargs={"gpu_memory_utilization": 0.3})


def test_on_a_cpu_the_cache_holds_some_rows_and_takes_a_quarter_of_the_memory_at_most() -> None:
    def cache(**more: Any) -> int:
        return int(arguments(**more)["kv_cache_memory_bytes"])

    assert cache(window=1 << 20) == 16 * (1 << 20) * TOKEN
    assert cache(window=1 << 20, dtype="bfloat16") == 8 * (1 << 20) * TOKEN
    assert cache(window=1 << 20, free=1 << 32) == 1 << 30
    assert cache(window=16) == cache(free=0) == LEAST_CACHE


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment with a folder on PATH alone, in which a test may put nvidia-smi."""
    for name in [name for name in os.environ if name.startswith("VLLM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"PATH": f"{tmp_path}:/usr/bin:/bin"})
    return tmp_path


def install(folder: Path, *lines: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("visible", "invariant"), [("GPU-a", True), ("GPU-b", False), ("GPU-a,GPU-b", False), ("MIG-c", False)]
)
def test_batch_invariance_is_asked_of_gpus_that_can(environment: Path, visible: str, invariant: bool) -> None:
    install(environment, "9.0, GPU-a", "7.5, GPU-b")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    assert prepare_environment(on_gpus=True) is invariant
    assert (os.environ.get(INVARIANT) == "1") is invariant


def test_a_user_may_turn_batch_invariance_off_and_a_cpu_has_none(environment: Path) -> None:
    install(environment, "9.0, GPU-a")
    os.environ |= {"CUDA_VISIBLE_DEVICES": "GPU-a", INVARIANT: "0"}
    assert prepare_environment(on_gpus=True) is False
    assert os.environ[INVARIANT] == "0"
    del os.environ[INVARIANT]
    assert prepare_environment(on_gpus=False) is False
    assert INVARIANT not in os.environ


def test_the_engine_runs_in_the_worker_whatever_the_user_has_set(environment: Path) -> None:
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_CPU_OMP_THREADS_BIND": "0-3"}
    assert prepare_environment(on_gpus=True) is False  # nobody tells what the GPUs are
    assert os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "0-3"
