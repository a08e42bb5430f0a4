"""Models whose weights are loaded here: the place of the weights, and their settings."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, ValidationInfo, model_validator

from shardmark.config.base import Dtype
from shardmark.config.secrets import OPEN
from shardmark.config.wording import WordedConfig
from shardmark.settings import AS_WRITTEN

PLACEMENT = {"device_map", "max_memory", "offload_folder", "low_cpu_mem_usage", "attn_implementation"}
"model_kwargs for where and how fast a model runs, which change no answer."
UNPACKED = {"device_map", "quantization_config"}
"model_kwargs that place or store weights in other ways; such weights are left unpacked."
OWN_KEYS = {"dtype": "dtype", "torch_dtype": "dtype", "trust_remote_code": "trust_remote_code"}
"Arguments of from_pretrained that are separate settings here, because the plan must know them."
BITS = ("load_in_8bit", "load_in_4bit")
QUANTIZATION = (*BITS, "bnb_4bit_", "llm_int8_")
"The beginnings of BitsAndBytesConfig's keys: users also write them beside quantization_config."
ELSEWHERE = {
    "subfolder": "give path: FOLDER/SUBFOLDER",
    "revision": "give the setting revision",
    "gguf_file": "give the setting gguf_file",
}
"kwargs that make transformers read other files than the plan checks, and what to write instead."
HUB_TOKENS = ("token", "use_auth_token")
"kwargs that hold a key of the Hub."


class WeightsConfig(WordedConfig):
    """A model with weights and a tokenizer in files, in the formats of Hugging Face or GGUF."""

    path: str | None = None
    "A folder in Hugging Face format, or a Hub id such as Qwen/Qwen2.5-0.5B."
    revision: str | None = None
    "Branch, tag or commit on the Hub; the default branch if null. The commit it stands for is pinned in the lock."
    gguf_file: str | None = None
    "A GGUF file instead of `path`; dequantised once to safetensors, then cached."
    gguf_package: str | None = None
    "An installed Python package whose `assemble()` returns a GGUF file, instead of `path`."
    adapter: str | None = None
    "Folder or Hub id of a PEFT adapter (LoRA, for instance) for these weights. Needs the package peft."
    adapter_revision: str | None = None
    "Branch, tag or commit of the adapter on the Hub; the default branch if null."
    dtype: Dtype = "auto"
    "The weights' type while running; auto is bfloat16 on GPUs and float32 on the CPU."
    pack_weights: Literal["auto"] | bool = "auto"
    "Let oneDNN pack float32 weights on a CPU; auto: for texts, where faster. Log-likelihoods would move by 1.5e-4."
    request_seconds: PositiveInt | None = None
    "Seconds after which an answer is ended. Other machines then give other answers, so the report counts these."
    model_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoModelForCausalLM.from_pretrained."

    @property
    def resolved_dtype(self) -> str:
        """The weights' type while running."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self.num_gpus else "float32"

    @property
    def place(self) -> str:
        """The path, Hub id, package or file of the weights."""
        return self.path or self.gguf_package or self.gguf_file or ""

    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer, which placement and speed cannot."""
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        limit = {"request_seconds": self.request_seconds} if self.request_seconds else {}
        return (
            super().identity()
            | limit
            | {
                "dtype": self.resolved_dtype,
                "model_kwargs": {k: v for k, v in self.model_kwargs.items() if k not in PLACEMENT} | trust,
            }
        )

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, values: object, info: ValidationInfo) -> Any:
        """Move dtype, torch_dtype and trust_remote_code from the kwargs to the settings of those names."""
        if not isinstance(values, dict) or info.context == AS_WRITTEN:
            return values
        values = dict(values)
        for key in ("model_kwargs", "tokenizer_kwargs"):
            kwargs = dict(values[key]) if isinstance(values.get(key), dict) else {}
            for alias, setting in OWN_KEYS.items():
                if alias in kwargs:
                    value = kwargs.pop(alias)
                    value = str(value).removeprefix("torch.") if setting == "dtype" else value
                    if values.setdefault(setting, value) != value:
                        raise ValueError(f"{key}.{alias} is {value}, but {setting} is {values[setting]}: keep one")
                    values[key] = kwargs
        if isinstance(values.get("model_kwargs"), dict):
            values["model_kwargs"] = _one_quantization(values["model_kwargs"])
        return values

    @model_validator(mode="after")
    def _one_source(self, info: ValidationInfo) -> "WeightsConfig":
        if info.context == AS_WRITTEN:
            return self
        sources = [self.path, self.gguf_file, self.gguf_package]
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of path, gguf_file and gguf_package")
        if self.pack_weights is True and (why := self.why_not_packed):
            raise ValueError(f"pack_weights: true is for float32 weights on a CPU, but {why}: keep one")
        if self.adapter_revision and not self.adapter:
            raise ValueError("adapter_revision is set, but no adapter")
        for kwargs in ("model_kwargs", "tokenizer_kwargs"):
            for key, fix in ELSEWHERE.items():
                if key in getattr(self, kwargs):
                    raise ValueError(
                        f"{kwargs}.{key} reads files other than those whose hashes are recorded in results: {fix}"
                    )
            for key in HUB_TOKENS:
                if isinstance(getattr(self, kwargs).get(key), str):
                    raise ValueError(f"{kwargs}.{key} {OPEN}: set the environment variable HF_TOKEN")
        return self

    @property
    def why_not_packed(self) -> str | None:
        """The setting that keeps weights from being packed."""
        if self.num_gpus or self.resolved_dtype != "float32":
            return f"num_gpus is {self.num_gpus} and dtype {self.dtype}"
        keys = sorted(UNPACKED & self.model_kwargs.keys())
        return f"model_kwargs has {keys[0]}" if keys else None


def _one_quantization(kwargs: dict[str, Any]) -> dict[str, Any]:
    """model_kwargs with all of bitsandbytes' keys in quantization_config, where transformers looks for them."""
    beside = {key: value for key, value in kwargs.items() if key.startswith(QUANTIZATION)}
    given = kwargs.get("quantization_config") or {}
    if not isinstance(given, dict):
        raise ValueError("model_kwargs: quantization_config is not a mapping such as {load_in_8bit: true}")
    if clash := sorted(key for key in beside.keys() & given.keys() if beside[key] != given[key]):
        raise ValueError(f"model_kwargs: {clash[0]} differs from quantization_config.{clash[0]}: keep one")
    whole = {key: _plain_dtype(value) for key, value in (given | beside).items() if value is not None}
    if whole.get("load_in_8bit") and whole.get("load_in_4bit"):
        raise ValueError("model_kwargs: load_in_8bit and load_in_4bit exclude each other: keep one")
    whole = {key: value for key, value in whole.items() if not (key in BITS and value is False)}
    rest = {key: value for key, value in kwargs.items() if key not in beside and key != "quantization_config"}
    if whole and not whole.keys() & {*BITS, "quant_method"}:
        raise ValueError(f"model_kwargs: {min(whole)} has no effect without load_in_8bit or load_in_4bit: add one")
    return rest | ({"quantization_config": whole} if whole else {})


def _plain_dtype(value: object) -> Any:
    """Accept torch.bfloat16, as people write it in Python, for bfloat16."""
    return value.removeprefix("torch.") if isinstance(value, str) else value
