"""Whether a folder holds a model that can be loaded, checked without loading it and before a GPU is taken."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shardmark.files import read_json

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"Names under which transformers looks for weights, in this order: as a file, else as the files listed in its index."
INDEX = ".index.json"
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt"}
TOKENIZER_SUFFIXES = {".model", ".tiktoken"}
ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = {"adapter_model.safetensors", "adapter_model.bin"}
NOT_LAYERS = {"PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "ADAPTION_PROMPT", "CARTRIDGE"}
"Kinds of adapters that add tokens or keys to the input instead of changing layers."
QUANTISERS = {
    "gptq": ("optimum", "gptqmodel"),
    "awq": ("gptqmodel",),
    **{name: (name,) for name in ("compressed-tensors", "torchao", "hqq", "aqlm", "auto-round")},
}
"The packages that transformers needs for weights of each quant_method in config.json."
NEED_THE_PROMPT = {"XLORA", "POLY", "SHADOW"}
"Kinds of adapters that are computed from the whole input, so that no two prompts have the same model."


def model_faults(folder: Path, files: set[str]) -> list[str]:
    """Faults of a folder of weights; `files` are the names in it that belong to a model."""
    if ADAPTER in files:  # transformers would load it, but only where peft is installed
        return [f"it holds an adapter ({ADAPTER}): name a folder of its own as `adapter`, and the model as `path`"]
    return [*_config_faults(folder, files), *_weight_faults(folder, files)]


def tokenizer_faults(folder: Path, files: set[str]) -> list[str]:
    """Faults of a folder as a tokenizer's."""
    own = {file for file in files if file in TOKENIZER_FILES or Path(file).suffix in TOKENIZER_SUFFIXES}
    if "tekken.json" in files and own <= {"tokenizer_config.json"}:
        return ["its tokenizer is only in tekken.json, Mistral's own format, beside which it needs tokenizer.json"]
    if not own:
        return ["it has no tokenizer (tokenizer.json, tokenizer.model, vocab.json, ...)"]
    return [
        fault for name in sorted(files & TOKENIZER_FILES) if name.endswith(".json") for fault in _json(folder, name)
    ]


def adapter_faults(folder: Path, files: set[str]) -> list[str]:
    """Faults of a folder as a PEFT adapter's."""
    if ADAPTER not in files:
        return [f"it has no {ADAPTER}"]
    faults = _json(folder, ADAPTER) or list(_adapter_config_faults(read_json(folder / ADAPTER)))
    if not files & ADAPTER_WEIGHTS:
        faults.append(f"it has no {' or '.join(sorted(ADAPTER_WEIGHTS, reverse=True))}")
    weights = sorted(file for file in files & ADAPTER_WEIGHTS if file.endswith(".safetensors"))
    return faults + [fault for file in weights for fault in _safetensors_faults(folder / file)]


def _adapter_config_faults(config: dict[str, Any]) -> Iterator[str]:
    kind = config.get("peft_type")
    if not kind:
        yield f"{ADAPTER} names no peft_type"
    elif kind in NOT_LAYERS:
        yield f"its peft_type {kind} changes the input instead of the layers, which the engine does not support"
    elif kind in NEED_THE_PROMPT or config.get("alora_invocation_tokens"):
        yield f"its layers ({kind}) depend on the whole prompt, which the engine does not support"


def missing_packages(
    adapter: str | None, model_kwargs: dict[str, Any], folder: Path | None
) -> list[tuple[str, str, str]]:
    """Key, package and fix for each optional package that a model needs and that is not installed.

    `folder` holds its weights, if they are on this machine.
    """
    found = []
    if adapter and not find_spec("peft"):
        found.append(("adapter", "peft", "pip install peft"))
    given = model_kwargs.get("quantization_config") or {}
    if (_is_bitsandbytes(given) or _is_bitsandbytes(_own_quantization(folder))) and not find_spec("bitsandbytes"):
        key = "model_kwargs.quantization_config" if _is_bitsandbytes(given) else "path"
        found.append((key, "bitsandbytes", "pip install bitsandbytes"))
    attention = str(model_kwargs.get("attn_implementation") or "")
    # kernels brings compiled attention from the Hub in flash-attn's place
    if attention == "flash_attention_2" and not find_spec("flash_attn") and not find_spec("kernels"):
        fix = "pip install flash-attn, or use attn_implementation: sdpa, with which prefixes can be shared"
        found.append(("model_kwargs.attn_implementation", "flash-attn", fix))
    return found


def missing_quantisers(folder: Path | None) -> list[tuple[str, str, str]]:
    """As `missing_packages`, what transformers needs to read the quantised weights in a folder."""
    own = _own_quantization(folder)
    needed = QUANTISERS.get(str(own.get("quant_method")), ()) if isinstance(own, dict) else ()
    return [("path", name, f"pip install {name}") for name in missing_distributions(needed)]


def missing_distributions(names: Iterable[str]) -> list[str]:
    """The packages, of those with these pip names, that are not installed."""
    found = []
    for name in names:
        try:
            distribution(name)
        except PackageNotFoundError:
            found.append(name)
    return found


def _is_bitsandbytes(quantization: object) -> bool:
    if not isinstance(quantization, dict):
        return False
    method = str(quantization.get("quant_method") or "")
    return bool(quantization.get("load_in_8bit") or quantization.get("load_in_4bit") or method == "bitsandbytes")


def _own_quantization(folder: Path | None) -> Any:
    """The format of the stored weights by a model's config.json."""
    with suppress(OSError, ValueError, AttributeError):
        return read_json(folder / "config.json").get("quantization_config") if folder else None
    return None


def _config_faults(folder: Path, files: set[str]) -> list[str]:
    if "config.json" not in files:
        return ["it has no config.json"]
    faults = _json(folder, "config.json")
    if not faults and read_json(folder / "config.json").get("is_encoder_decoder"):
        return ["it has an encoder (is_encoder_decoder in config.json), and only its decoder would be asked"]
    return faults


def _json(folder: Path, name: str) -> list[str]:
    """The fault of a file that should hold a JSON object, if it has one."""
    try:
        value = read_json(folder / name)
    except (OSError, ValueError) as error:
        return [f"{name} is not valid JSON: {error}"]
    return [] if isinstance(value, dict) else [f"{name} is not a JSON object"]


def weight_files(folder: Path, safetensors: bool | None = None) -> list[Path]:
    """The files that transformers reads a model's weights from; `safetensors` selects the kind, if set."""
    kinds = WEIGHTS if safetensors is None else WEIGHTS[:1] if safetensors else WEIGHTS[1:]
    for name in kinds:
        if (folder / name).is_file():
            return [folder / name]
        if listed := _listed(folder, f"{name}{INDEX}"):
            return [folder / file for file in sorted(listed)]
    return []


def _weight_faults(folder: Path, files: set[str]) -> Iterator[str]:
    weights = {file for file in files if Path(file).suffix == ".safetensors"}
    for name in WEIGHTS:
        if name in files:
            break
        if f"{name}{INDEX}" in files:
            listed = _listed(folder, f"{name}{INDEX}")
            if listed is None:
                yield f"its {name}{INDEX} cannot be read"
                return
            yield from (f"it has no {file}" for file in sorted(listed - files))
            break
    else:
        if not weights and not any(Path(file).suffix == ".bin" for file in files):
            yield "it has no weights (*.safetensors)"
    for file in sorted(weights):
        yield from _safetensors_faults(folder / file)


def _listed(folder: Path, index: str) -> set[str] | None:
    """The weight files that an index names; None if it cannot be read."""
    try:
        weights: Any = read_json(folder / index)
        return set(weights["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _safetensors_faults(path: Path) -> list[str]:
    """The fault of a weight file, if it has one: its header gives its length, so a file that was cut off is noticed."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return []
    except (SafetensorError, OSError) as error:
        return [f"{path.name} is damaged or cut off: {error}"]
