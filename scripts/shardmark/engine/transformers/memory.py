"""Estimates, made before anything runs, of the free memory and of the memory that a token takes in a model."""

import os
from pathlib import Path

import torch
from transformers import PreTrainedModel

from shardmark.engine.transformers.loading import compute_devices

MEMINFO = Path("/proc/meminfo")


def free_bytes(device: torch.device) -> int:
    """Free memory of a device. On a CPU this includes the page cache, which holds weights just read, for example."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if MEMINFO.exists():
        return next(int(line.split()[1]) << 10 for line in MEMINFO.open() if line.startswith("MemAvailable:"))
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def free_for(model: PreTrainedModel) -> int:
    """Free memory of the fullest device that a model computes on."""
    return min(free_bytes(device) for device in compute_devices(model))


def activation_bytes(model: PreTrainedModel) -> int:
    """Bytes that one more token takes in the layer being computed."""
    return _width(model) * (16 * _size(model, "hidden_size") + 3 * _size(model, "intermediate_size"))


def cache_bytes(model: PreTrainedModel) -> int:
    """Bytes that the keys and values of one more token take in all layers."""
    heads = _size(model, "num_key_value_heads") or _size(model, "num_attention_heads")
    head = _size(model, "head_dim") or _size(model, "hidden_size") // max(1, _size(model, "num_attention_heads"))
    return 2 * _width(model) * _size(model, "num_hidden_layers") * heads * head


def logits_bytes(model: PreTrainedModel) -> int:
    """Bytes that the logits of one position take."""
    return _width(model) * _size(model, "vocab_size")


def _width(model: PreTrainedModel) -> int:
    return torch.finfo(model.dtype).bits // 8


def _size(model: PreTrainedModel, name: str) -> int:
    config = model.config.get_text_config()
    configs = config.per_layer_config if getattr(config, "is_heterogeneous", False) else [config]
    values = [getattr(one, name, None) or 0 for one in configs]
    return max(int(value if isinstance(value, int) else max(value)) for value in values)  # a list: one for each layer
