"""Start of vLLM: its arguments from a model's settings, and its environment, set before it is imported."""

import os
import subprocess
from typing import Any

import torch
from transformers import PreTrainedConfig

from shardmark.config.backends.vllm import VllmConfig
from shardmark.engine.transformers.memory import free_bytes
from shardmark.records.model import Staged

NEEDED = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine runs in the worker, which ends with its run
    "VLLM_COMPUTE_NANS_IN_LOGITS": "1",  # among NaN logits, some token is chosen as well
}
USUAL = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would keep the locks of the devices
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else all workers take the same cores
}
"Environment variables: NEEDED is always set, USUAL unless the user sets them."
INVARIANT = "VLLM_BATCH_INVARIANT"
INVARIANT_FROM = 8.0
"The compute capability from which on NVIDIA's GPUs have kernels whose results do not depend on the batch."
CACHED_ROWS = 16
"On a CPU, the KV cache holds at least this many rows of the window's length, if memory allows."
CACHE_SHARE = 0.25
"The largest share of the free memory for that cache."
LEAST_CACHE = 1 << 28


def prepare_environment(on_gpus: bool) -> bool:
    """Set the variables that vLLM reads on import; whether it then promises answers that don't depend on batches."""
    os.environ.update(NEEDED)
    for name, value in USUAL.items():
        os.environ.setdefault(name, value)
    if on_gpus and _capability() >= INVARIANT_FROM:
        os.environ.setdefault(INVARIANT, "1")
    return on_gpus and os.environ.get(INVARIANT) == "1"


def _capability() -> float:
    """The lowest compute capability of the visible GPUs, without starting CUDA as torch would; 0 if it is unknown."""
    query = ["nvidia-smi", "--query-gpu=compute_cap,uuid", "--format=csv,noheader"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0.0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    found = [line.split(", ") for line in listing.splitlines()]
    mine = [float(capability) for capability, uuid in found if uuid in visible] or [float(each[0]) for each in found]
    return min(mine, default=0.0)


def engine_arguments(
    settings: VllmConfig, staged: Staged, window: int, config: PreTrainedConfig, free: int | None = None
) -> dict[str, Any]:
    """The arguments of vLLM's EngineArgs; those in the model's file override the defaults chosen here."""
    stages = int(settings.vllm_kwargs.get("pipeline_parallel_size", 1))
    chosen: dict[str, Any] = {
        "model": staged.model,
        "tokenizer": staged.tokenizer,
        "dtype": settings.resolved_dtype,
        "max_model_len": window,
        "tensor_parallel_size": max(1, settings.num_gpus // stages),
        "trust_remote_code": settings.trust_remote_code,
        "generation_config": "vllm",  # sampling settings that come with weights are dropped
        "disable_log_stats": True,
    }
    if settings.batch_size != "auto":
        chosen["max_num_seqs"] = settings.batch_size
    if not settings.num_gpus:
        chosen["enforce_eager"] = True  # compiling for a CPU takes minutes
        if not {"kv_cache_memory_bytes", "gpu_memory_utilization"} & settings.vllm_kwargs.keys():
            chosen["kv_cache_memory_bytes"] = _cache_bytes(settings, window, config, free)
    return chosen | settings.vllm_kwargs


def _cache_bytes(settings: VllmConfig, window: int, config: PreTrainedConfig, free: int | None) -> int:
    """The size of the KV cache on a CPU: without it, vLLM would take nearly all memory."""
    width = getattr(torch, settings.resolved_dtype).itemsize
    wanted = CACHED_ROWS * window * _values_of_token(config) * width
    free = free_bytes(torch.device("cpu")) if free is None else free
    return max(LEAST_CACHE, min(wanted, int(CACHE_SHARE * free)))


def _values_of_token(config: PreTrainedConfig) -> int:
    """The number of values in the keys and values of a token in all layers."""
    text = config.get_text_config()

    def size(*names: str) -> int:
        values = (getattr(text, name, None) for name in names)
        return next((int(value if isinstance(value, int) else max(value)) for value in values if value), 1)

    attending = size("num_attention_heads")
    heads = size("num_key_value_heads", "num_attention_heads")
    head = getattr(text, "head_dim", None) or size("hidden_size") // attending
    return 2 * size("num_hidden_layers") * heads * int(head)
