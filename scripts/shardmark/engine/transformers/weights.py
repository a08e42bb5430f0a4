"""Whether a checkpoint has every tensor of its model, and the model an embedding for every token of its tokenizer.

transformers fills tensors that are missing, or have another shape, with random values, says so in its log and goes on.
Such a model is refused here: while it is staged, by the names and shapes in its files, and again when it is loaded.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Collection, Iterable, Mapping
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shardmark.config.weights import PLACEMENT
from shardmark.config.wording import WordedConfig
from shardmark.errors import Problem, UserError
from shardmark.plan.model_folders import model_faults, weight_files
from shardmark.plan.models import ORIGINAL
from shardmark.printable import one_line
from shardmark.processes.imports import without_collection
from shardmark.records.model import GgufFile, ModelRecord, Staged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

NUMBER = re.compile(r"\d+")
NAMED = 5
"The most names of each kind in a message."
WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "_fsdp_wrapped_module.": "FSDP",
    "_checkpoint_wrapped_module.": "activation checkpointing",
    "_forward_module.": "Lightning Fabric",
    "module.": "DataParallel or DeepSpeed",
    "base_model.model.": "PEFT",
    "base_layer.": "PEFT",
}
"Parts of the names of tensors that were saved from a wrapper around the model, and the origin of each wrapper."
ANEW = "copy the model again, with all files of its weights"


class Found(NamedTuple):
    """transformers' report on a checkpoint, without tensors that the model declares as tied or optional."""

    missing: set[str]
    "Tensors of the model that are not in the checkpoint."
    unexpected: set[str]
    "Tensors in the checkpoint that belong to no part of the model."
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    "Tensors whose shapes differ, with their shape in the checkpoint and in the model."
    names: set[str]
    "All tensors of the model."

    @property
    def unused(self) -> set[str]:
        """Unexpected tensors that a larger or quantised model, or one of another kind, would use.

        They belong to a module like one that the model has, or are the weights of another one in its layers. What
        remains are other heads, and buffers that older versions of transformers saved.
        """
        alike = {NUMBER.sub("#", name) for name in self.names}
        modules = {name.rpartition(".")[0] for name in alike}
        layers = {module.rpartition(".")[0] for module in modules if "#" in module}

        def is_used(name: str) -> bool:
            module, _, tensor = name.rpartition(".")
            return name in alike or module in modules or (tensor == "weight" and module.rpartition(".")[0] in layers)

        return {name for name in self.unexpected if is_used(NUMBER.sub("#", name))}


def found(model: "PreTrainedModel", info: Mapping[str, Any]) -> Found:
    """The report of `from_pretrained(..., output_loading_info=True, ignore_mismatched_sizes=True)` on a model."""
    mismatched = {name: (tuple(there), tuple(wanted)) for name, there, wanted in info["mismatched_keys"]}
    unexpected = set(info["unexpected_keys"])
    if getattr(model.config, "quantization_config", None):  # it may have no use for some scales
        unexpected = {name for name in unexpected if name.endswith((".weight", ".bias"))}
    return Found(set(info["missing_keys"]), unexpected, mismatched, set(model.state_dict()))


def check_tensors(record: ModelRecord, checkpoint: Found) -> None:
    """Raise UserError if a tensor of the model would have random values, or if the weights belong to a larger model."""
    missing, unexpected, mismatched, names = checkpoint
    if not missing and not mismatched:
        _refuse_unused(record, checkpoint.unused)
        return
    tensors = len(names)
    parts = [f"model {record.name}: "]
    if missing:
        parts.append(f"its weights lack {len(missing)} of {tensors} tensors ({_some(missing)})")
    if mismatched:
        shapes = [
            f"{name} is {list(a)} in the weights and {list(b)} in the model" for name, (a, b) in mismatched.items()
        ]
        parts.append(f"{'; and ' if missing else ''}{len(mismatched)} of {tensors} tensors have another shape")
        parts.append(f" ({_some(shapes)})")
    parts.append("; transformers would fill them with random values")
    if unexpected:
        parts.append(f". {len(unexpected)} tensors of the weights do not belong to the model ({_some(unexpected)})")
    if isinstance(record.source, GgufFile):  # transformers took the wrong sizes from the header
        raise UserError(Problem(record.file, "gguf_file", "".join(parts), ORIGINAL))
    raise UserError(Problem(record.file, "path", "".join(parts), _fix(checkpoint)))


def _refuse_unused(record: ModelRecord, unused: Collection[str]) -> None:
    """Raise UserError if a config leaves out a part of a model, unless model_kwargs do so on purpose."""
    if unused and not record.weights.model_kwargs.keys() & {"num_hidden_layers", "attention_bias", "mlp_bias"}:
        what = f"model {record.name}: its config.json leaves out {len(unused)} tensors of its weights ({_some(unused)})"
        fix = (
            "correct config.json, or describe the model in model_kwargs, as in {num_hidden_layers: 28} or "
            "{attention_bias: true}"
        )
        raise UserError(Problem(record.file, "path", what, fix))


def _some(names: Iterable[str]) -> str:
    """A few names, and the number of others."""
    ordered = sorted(
        names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    )
    more = len(ordered) - NAMED
    return ", ".join(ordered[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _fix(checkpoint: Found) -> str:
    """The fix for the most likely cause."""
    missing, unexpected, mismatched, names = checkpoint
    tensors = len(names)
    if (prefix := _added(unexpected, missing)) is not None:
        whose = next((f", as {whose} writes them" for wrapper, whose in WRAPPERS.items() if wrapper in prefix), "")
        inner = "merge the adapter into the model" if "PEFT" in whose else "save the model inside the wrapper"
        return f"the tensors are there under names with {prefix!r}{whose}: {inner}, or rename them"
    if missing and all("lm_head" in name or "embed_out" in name for name in missing) and not mismatched:
        return (
            "save the weights with the output layer; only if it shares the input embeddings, set tie_word_embeddings: "
            "true in config.json"
        )
    if len(missing | set(mismatched)) > tensors // 2 and (mismatched or len(unexpected) > tensors // 2):
        return "config.json does not belong to these weights: use both from the same model"
    if mismatched:
        return "the sizes in config.json (or model_kwargs) differ from the weights': use both from the same model"
    return ANEW


def _added(unexpected: Collection[str], missing: Collection[str]) -> str | None:
    """The prefix in the names of unexpected tensors that would otherwise be missing ones; None if there is none."""
    pairs = []
    wrappers = re.compile("|".join(re.escape(wrapper) for wrapper in WRAPPERS))
    for name in unexpected:
        plain = wrappers.sub("", name)
        if plain != name and (plain in missing or any(other.endswith(f".{plain}") for other in missing)):
            return "".join(dict.fromkeys(wrappers.findall(name)))
        pairs += [name.removesuffix(other) for other in missing if name.endswith(f".{other}")][:1]
    prefix = commonprefix(pairs)  # noqa: RUF071 - characters are what it is for here
    return (prefix or None) if len(pairs) > len(missing) // 2 else None


def check_vocabulary(
    record: ModelRecord, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: str
) -> None:
    """Raise UserError if the tokenizer in a folder has a token that the weights have no embedding for.

    A tokenizer's class may add a token that its files do not have: that is no error until a text contains it.
    """
    rows = rows_of(model)
    beyond = {token: number for token, number in _vocabulary(tokenizer).items() if number >= rows}
    beyond = {token: number for token, number in beyond.items() if _is_known(token, Path(folder))}
    if beyond:
        named = _some(f"{number} {token!r}" for token, number in beyond.items())
        what = (
            f"model {record.name}: tokenizer and weights do not match: the weights have {rows} rows of embeddings, "
            f"and {len(beyond)} tokens of the tokenizer lie beyond them ({named})"
        )
        fix = "use tokenizer and weights of the same model, or save the model after resize_token_embeddings"
        if isinstance(record.source, GgufFile) and not record.tokenizer:  # transformers has added them to the file's
            fix = "give the folder of the model's original tokenizer as tokenizer_path"
        raise UserError(Problem(record.file, "tokenizer_path" if record.tokenizer else "path", what, fix))


def rows_of(model: "PreTrainedModel") -> int:
    """The number of tokens that a model has embeddings and outputs for."""
    layers = [
        getattr(layer, "base_layer", layer) for layer in (model.get_input_embeddings(), model.get_output_embeddings())
    ]
    sizes = [getattr(layer, "num_embeddings", None) or getattr(layer, "out_features", None) for layer in layers]
    return min((size for size in sizes if isinstance(size, int)), default=sys.maxsize)


def _is_known(token: str, folder: Path) -> bool:
    """Whether a token is in the files of a tokenizer; true if there is no tokenizer.json."""
    texts = [file.read_text("utf-8") for file in folder.glob("*.json") if file.name != "config.json"]
    spelled = {json.dumps(token), json.dumps(token, ensure_ascii=False)}
    return not (folder / "tokenizer.json").is_file() or any(name in text for name in spelled for text in texts)


def _vocabulary(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """A tokenizer's tokens and their ids, including added ones."""
    added = {str(token): number for number, token in tokenizer.added_tokens_decoder.items()}
    try:
        return {**tokenizer.get_vocab(), **added}
    except NotImplementedError:  # raised by transformers' base class if a model's own code has no vocabulary
        return added


def check_staged(record: ModelRecord, staged: Staged) -> None:
    """Raise UserError if the weights in a folder lack tensors, or do not fit the tokenizer, before they are loaded.

    The model and its tensors are built without memory: only the names and shapes in the files are read. Models that
    cannot be checked in this way (quantised weights; code that needs a GPU) are checked when they are loaded, and so
    are models that transformers loads on the CPU: checking them here would only cost seconds of imports.
    """
    folder = Path(staged.model)
    if not folder.is_dir():
        return
    if faults := model_faults(folder, set(os.listdir(folder))):
        what = f"{record.source.path} is not a model: {'; '.join(faults)}"
        raise UserError(Problem(record.file, "path", what, ANEW))
    if record.weights.num_gpus == 0 and not record.weights.engines():
        return
    try:
        looked = _on_meta(record, folder)
        tokenizer = looked and _tokenizer(record, staged.tokenizer)
    except Exception as error:  # loading raises any error of the libraries or the model's code again
        log.warning("not compared with its model before it is loaded: %s", one_line(error))
        return
    if looked:
        model, info = looked
        check_tensors(record, found(model, info))
        check_vocabulary(record, model, tokenizer, staged.tokenizer)


def _tokenizer(record: ModelRecord, folder: str) -> Any:
    from transformers import AutoTokenizer

    with without_collection():
        return AutoTokenizer.from_pretrained(folder, **tokenizer_kwargs(record.weights))


def tokenizer_kwargs(settings: WordedConfig) -> dict[str, Any]:
    """Keyword arguments for loading a tokenizer.

    Where mistral-common is installed, as vLLM does, transformers would read tekken.json instead of tokenizer.json, and
    ignore the chat template.
    """
    given = {key: value for key, value in settings.tokenizer_kwargs.items() if key != "truncation"}
    return {"trust_remote_code": settings.trust_remote_code, "mistral_format": False} | given


def _on_meta(record: ModelRecord, folder: Path) -> tuple[Any, dict[str, Any]] | None:
    """The model without values, and transformers' report on its weights; None if they cannot be checked."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM

    transformers.utils.logging.disable_progress_bar()
    settings = record.weights
    trust = {"trust_remote_code": settings.trust_remote_code}
    kwargs = {key: value for key, value in settings.model_kwargs.items() if key not in PLACEMENT}
    if "quantization_config" in kwargs or "state_dict" in kwargs:
        return None
    config, _ = AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **trust, **kwargs)
    files = weight_files(folder, kwargs.get("use_safetensors"))
    if getattr(config, "quantization_config", None) or not files:
        return None
    with torch.device("meta"):
        kind = type(AutoModelForCausalLM.from_config(config, **trust))
    loaded: tuple[Any, dict[str, Any]] = kind.from_pretrained(
        None,
        config=config,
        state_dict=_tensors(files),
        device_map={"": "meta"},
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    return loaded


def _tensors(files: Iterable[Path]) -> dict[str, Any]:
    """The tensors in weight files, without their values."""
    import torch
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
                tensors |= {name: torch.empty(part.get_shape(), device="meta") for name, part in parts.items()}
        else:
            tensors |= torch.load(file, map_location="meta", mmap=True, weights_only=True)
    return tensors
