"""A causal language model of transformers on its devices: weights, quantisation, adapter."""

import logging
import warnings
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from shardmark.config.weights import WeightsConfig
from shardmark.engine.transformers.logits import relative_difference
from shardmark.engine.transformers.packed import pack_linears
from shardmark.engine.transformers.weights import check_tensors, found, rows_of
from shardmark.errors import Problem, UserError
from shardmark.records.model import ModelRecord, Staged

BITSANDBYTES_LOG = logging.getLogger("bitsandbytes.autograd._functions")
"The logger that reports, at each matrix product, that the input is rounded."
CHECKED = {"output_loading_info": True, "ignore_mismatched_sizes": True}
"Report tensors that are missing or have another shape, so that they can be refused by name."


def load_model(record: ModelRecord, staged: Staged) -> Any:
    """The model of the plan's record. Raises UserError for weights that lack tensors, and errors of the libraries."""
    settings = record.weights
    BITSANDBYTES_LOG.setLevel(logging.ERROR)
    kwargs = {"dtype": getattr(torch, settings.resolved_dtype), "trust_remote_code": settings.trust_remote_code}
    kwargs |= _placement(settings) | settings.model_kwargs | CHECKED
    model, info = AutoModelForCausalLM.from_pretrained(staged.model, **kwargs)
    check_tensors(record, found(model, info))
    if "device_map" not in kwargs:
        model.to("cuda" if settings.num_gpus else "cpu")
    if staged.adapter:
        model = _adapted(model, staged.adapter)
    if settings.pack_weights is True:
        pack_linears(model)
    return model.eval()


@torch.inference_mode()
def check_causal(record: ModelRecord, model: PreTrainedModel) -> None:
    """Raise UserError if tokens see later ones, as BERT's do: the model would be shown what it is to predict."""
    row = [(7 * n + 1) % rows_of(model) for n in range(8)]
    tokens = torch.tensor([row, [*row[:-1], row[0]]], device=input_device(model))
    found, wanted = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    exact = precision(model) == torch.float32 and not getattr(model.config, "quantization_config", None)
    if relative_difference(found, wanted) > (1e-3 if exact else 0.1):
        what = f"model {record.name} is not causal: what it says of a token depends on later tokens"
        fix = "use a causal language model; if it is one, its config.json may lack is_decoder: true"
        raise UserError(Problem(record.file, "path", what, fix))


def _placement(settings: WeightsConfig) -> dict[str, Any]:
    """The device of the weights, if they must be put there while they are read."""
    if settings.num_gpus > 1:
        return {"device_map": "auto"}
    if "quantization_config" in settings.model_kwargs:  # quantised weights cannot be moved afterwards
        return {"device_map": {"": "cuda:0" if settings.num_gpus else "cpu"}}
    return {}


def _adapted(model: PreTrainedModel, adapter: str) -> Any:
    """The model with a PEFT adapter's layers in it, of the same class as before.

    They are not merged into the weights: merging would round them, and is impossible with quantised weights.
    """
    from peft import PeftModel  # optional; planning has checked that it is installed

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*missing adapter keys")  # half an adapter is another model
        peft = PeftModel.from_pretrained(model, adapter)
    if peft.active_peft_config.is_prompt_learning:
        raise ValueError(f"its adapter ({peft.peft_type}) changes the input instead of the layers")
    unused = peft.load_adapter(adapter, peft.active_adapter).unexpected_keys  # from_pretrained keeps them to itself
    if unused:
        what = f"the model has no place for {len(unused)} tensors of its adapter, such as {sorted(unused)[0]}"
        raise ValueError(f"{what}: its adapter_config.json belongs to other layers, or to another model")
    return peft.base_model.model


def precision(model: PreTrainedModel) -> torch.dtype:
    """The type that determines a model's rounding. 8-bit weights are multiplied with inputs cut to float16."""
    dtype: torch.dtype = torch.float16 if getattr(model, "is_loaded_in_8bit", False) else model.dtype
    return dtype


def input_device(model: PreTrainedModel) -> torch.device:
    """The device for inputs: the one where the first layer computes, even if its weights wait on another or on disk."""
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return torch.device(model.device if device is None else device)


def compute_devices(model: PreTrainedModel) -> set[torch.device]:
    """The devices that a model's layers compute on."""
    placed = set((getattr(model, "hf_device_map", None) or {}).values()) - {"cpu", "disk"}
    return {torch.device(place) for place in placed} or {input_device(model)}
