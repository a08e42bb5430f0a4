"""Models whose weights are loaded here: where they are, and how they are asked."""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, ValidationInfo, model_validator

from shardmark.config.base import Dtype
from shardmark.config.model import ModelConfig
from shardmark.config.reasoning import Reasoning, ReasoningBudget, ReasoningTags, contradictions, switch
from shardmark.settings import AS_WRITTEN, Settings

SIDES = {"padding_side", "truncation_side", "truncation"}
"tokenizer_kwargs without effect: the engine pads and cuts by itself, and always cuts on the left."
PLACEMENT = {"device_map", "max_memory", "offload_folder", "low_cpu_mem_usage", "attn_implementation"}
"model_kwargs that say where and how fast a model runs, not what it answers."
TEMPLATE_DATE = "2024-07-26"
"What Llama's templates say where there is no clock."
OWN_KEYS = {"dtype": "dtype", "torch_dtype": "dtype", "trust_remote_code": "trust_remote_code"}
"Arguments of from_pretrained that are settings of their own here, because the plan must know them."
BITS = ("load_in_8bit", "load_in_4bit")
SET_HERE = frozenset(
    [
        "messages",
        "conversation",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "return_tensors",
        "return_dict",
        "padding",
        "truncation",
        "max_length",
        "tokenizer_kwargs",
        "return_assistant_tokens_mask",
        "sanitize_control_tokens",
    ]
)
"Arguments of apply_chat_template that are no variables of a template."
QUANTIZATION = (*BITS, "bnb_4bit_", "llm_int8_")
"What keys of BitsAndBytesConfig begin with: users also write them beside quantization_config."


class Turn(Settings):
    """What stands around a message."""

    begin: str = ""
    "Before it."
    end: str = ""
    "After it."


class MetaTemplate(Settings):
    """How a chat becomes a text for a model without a chat template of its own."""

    begin: str = ""
    "Before the first message."
    round: dict[Literal["system", "user", "assistant"], Turn]
    "What stands around the messages of each role; the answer is written after the assistant's `begin`."
    end: str = ""
    "After the last message, where the whole chat is scored."

    @model_validator(mode="after")
    def _speaks(self, info: ValidationInfo) -> "MetaTemplate":
        if info.context == AS_WRITTEN:
            return self
        if missing := [role for role in ("user", "assistant") if role not in self.round]:
            raise ValueError(f"round has no {' and no '.join(missing)}: each role needs begin and end")
        return self


ELSEWHERE = {
    "subfolder": "give path: FOLDER/SUBFOLDER",
    "revision": "give the setting revision",
    "gguf_file": "give the setting gguf_file",
}
"kwargs that lead transformers to other files than the plan looks at, and what to write instead."


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError("not a day as YYYY-MM-DD") from None


class WeightsConfig(ModelConfig):
    """A model with weights and a tokenizer in files, in the formats of Hugging Face or GGUF."""

    path: str | None = None
    "A folder in Hugging Face format, or a Hub id such as Qwen/Qwen2.5-0.5B."
    revision: str | None = None
    "Branch, tag or commit on the Hub; the default branch if null. The commit it stands for is pinned in the lock."
    gguf_file: str | None = None
    "A GGUF file instead of `path`; dequantised once to safetensors, then cached."
    gguf_package: str | None = None
    "An installed Python package whose `assemble()` returns a GGUF file, instead of `path`."
    tokenizer_path: str | None = None
    "Folder or Hub id of the tokenizer, if it is not beside the weights."
    adapter: str | None = None
    "Folder or Hub id of a PEFT adapter (LoRA, for instance) for these weights. Needs the package peft."
    adapter_revision: str | None = None
    "Branch, tag or commit of the adapter on the Hub; the default branch if null."
    dtype: Dtype = "auto"
    "The weights' type while running; auto is bfloat16 on GPUs and float32 on the CPU."
    max_seq_len: PositiveInt | None = None
    "The window in tokens (prompt and output); the model's own if null."
    meta_template: MetaTemplate | None = None
    "How a chat becomes a text, if the tokenizer has no chat template, or instead of it."
    chat_template_kwargs: dict[str, Any] = Field(default={})
    "Passed on to the tokenizer's chat template, e.g. {enable_thinking: false}."
    template_date: Annotated[str, AfterValidator(_date)] = TEMPLATE_DATE
    "The day that a chat template is told when it asks for today's (`strftime_now`), as YYYY-MM-DD in quotes."
    reasoning: Reasoning | None = None
    "on or off, or low, medium or high, by the chat template's own argument; or {budget: TOKENS} of a thought."
    reasoning_tags: ReasoningTags | None = None
    "How the model opens and closes its thoughts, such as [<think>, </think>]; found in its template if null."
    reasoning_tokens: PositiveInt | None = None
    "This many tokens of thoughts do not count towards the limit of an answer."
    request_seconds: PositiveInt | None = None
    "An answer that takes longer ends there. Other machines then give other answers, so the report counts them."
    trust_remote_code: bool = False
    "Run Python code that comes with the weights. Only for sources you trust."
    model_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoModelForCausalLM.from_pretrained."
    tokenizer_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoTokenizer.from_pretrained."

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

    @property
    def tells_of_reasoning(self) -> bool:
        """Whether its file says something of its thoughts; they are then taken off before any filter."""
        return any(value is not None for value in (self.reasoning, self.reasoning_tags, self.reasoning_tokens))

    def template_text(self, own: str | dict[str, str] | None) -> str:
        """The chat template that is rendered, where `own` are those of the tokenizer; empty if there is none."""
        given = self.tokenizer_kwargs.get("chat_template") or own
        named = self.chat_template_kwargs.get("chat_template")
        if isinstance(given, dict):
            given = given.get(named or "default", named)
        elif named:
            given = named
        return "" if self.meta_template else str(given or "")

    def switch(self, own: str | dict[str, str] | None) -> dict[str, Any] | None:
        """The arguments that make the chat template reason as the file says; None if it knows no such thing."""
        return {} if self.meta_template else switch(self.reasoning, self.template_text(own))

    def template_arguments(self, own: str | dict[str, str] | None) -> dict[str, Any]:
        """What is passed on to the chat template, where `own` are those of the tokenizer."""
        return self.chat_template_kwargs | (self.switch(own) or {})

    @property
    def thought_tokens(self) -> int:
        """Tokens of thoughts that do not count towards the limit of an answer."""
        if isinstance(self.reasoning, ReasoningBudget):
            return self.reasoning.budget
        return self.reasoning_tokens or 0

    def identity(self) -> dict[str, Any]:
        """What of the settings can change an answer. Placement and speed cannot."""
        trust = {"trust_remote_code": True} if self.trust_remote_code else {}
        answers = {
            "dtype": self.resolved_dtype,
            "max_seq_len": self.max_seq_len,
            "max_out_len": self.max_out_len,
            "model_kwargs": {k: v for k, v in self.model_kwargs.items() if k not in PLACEMENT} | trust,
            "tokenizer_kwargs": {k: v for k, v in self.tokenizer_kwargs.items() if k not in SIDES},
        }
        written = self.model_dump()
        for key in ("meta_template", "chat_template_kwargs"):  # only where there is one, so that other digests stay
            if written[key]:
                answers[key] = written[key]
        if self.template_date != TEMPLATE_DATE:
            answers["template_date"] = self.template_date
        for key in ("reasoning", "reasoning_tags", "reasoning_tokens", "request_seconds"):
            if written[key] is not None:
                answers[key] = written[key]
        return answers

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, values: object, info: ValidationInfo) -> Any:
        """dtype, torch_dtype and trust_remote_code among the kwargs mean the settings of those names."""
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
        if self.adapter_revision and not self.adapter:
            raise ValueError("adapter_revision is given, but no adapter")
        if self.meta_template and self.chat_template_kwargs:
            raise ValueError("chat_template_kwargs without effect: meta_template takes the chat template's place")
        if self.meta_template and self.template_date != TEMPLATE_DATE:
            raise ValueError("template_date without effect: meta_template takes the chat template's place")
        self._check_reasoning()
        if given := sorted(SET_HERE & self.chat_template_kwargs.keys()):
            raise ValueError(f"chat_template_kwargs: {', '.join(given)}: not for a template, but set by what is asked")
        for kwargs in ("model_kwargs", "tokenizer_kwargs"):
            for key, fix in ELSEWHERE.items():
                if key in getattr(self, kwargs):
                    raise ValueError(f"{kwargs}.{key} reads other files than those whose hashes results carry: {fix}")
        for key in ("truncation", "truncation_side"):
            if self.tokenizer_kwargs.get(key) == "right":
                raise ValueError(f"tokenizer_kwargs.{key} is right, but prompts are always cut on the left: drop it")
        return self

    def _check_reasoning(self) -> None:
        """Raise ValueError for settings of reasoning that contradict each other."""
        budget = isinstance(self.reasoning, ReasoningBudget)
        for key in contradictions(self.reasoning, self.chat_template_kwargs):
            raise ValueError(f"chat_template_kwargs.{key} says otherwise than reasoning: keep one")
        if self.meta_template and self.reasoning is not None and not budget:
            raise ValueError("reasoning without effect: meta_template takes the chat template's place")
        if self.reasoning_tokens and budget:
            raise ValueError("reasoning_tokens without effect: the budget's tokens count towards no limit anyway")
        if self.reasoning_tokens and self.reasoning == "off":
            raise ValueError("reasoning_tokens without effect: reasoning is off")


def _one_quantization(kwargs: dict[str, Any]) -> dict[str, Any]:
    """model_kwargs with all that is said of bitsandbytes in quantization_config, where transformers looks for it."""
    beside = {key: value for key, value in kwargs.items() if key.startswith(QUANTIZATION)}
    given = kwargs.get("quantization_config") or {}
    if not isinstance(given, dict):
        raise ValueError("model_kwargs: quantization_config is no mapping, such as {load_in_8bit: true}")
    if clash := sorted(key for key in beside.keys() & given.keys() if beside[key] != given[key]):
        raise ValueError(f"model_kwargs: {clash[0]} differs from quantization_config.{clash[0]}: keep one")
    whole = {key: _plain_dtype(value) for key, value in (given | beside).items() if value is not None}
    if whole.get("load_in_8bit") and whole.get("load_in_4bit"):
        raise ValueError("model_kwargs: load_in_8bit and load_in_4bit exclude each other: keep one")
    whole = {key: value for key, value in whole.items() if not (key in BITS and value is False)}
    rest = {key: value for key, value in kwargs.items() if key not in beside and key != "quantization_config"}
    if whole and not whole.keys() & {*BITS, "quant_method"}:
        raise ValueError(f"model_kwargs: {min(whole)} says nothing without load_in_8bit or load_in_4bit: add one")
    return rest | ({"quantization_config": whole} if whole else {})


def _plain_dtype(value: object) -> Any:
    """bfloat16 for torch.bfloat16, as people write it in Python."""
    return value.removeprefix("torch.") if isinstance(value, str) else value
