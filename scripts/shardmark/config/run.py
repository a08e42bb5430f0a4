"""config/config.yaml: which models on which data sets, and the one-off settings of `--config`."""

import re
import shlex
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveFloat,
    PositiveInt,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from shardmark.config.base import Chat, Dtype
from shardmark.config.dataset import Generation
from shardmark.config.yaml_files import load_yaml
from shardmark.errors import nearest
from shardmark.settings import Settings


def _names(value: object) -> Any:
    """`models=a,b` on the command line arrives as one string, as does `[*_ppl]`, whose star is no YAML."""
    if not isinstance(value, str):
        return value
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return [part.strip(" '\"") for part in inner.split(",") if part.strip()]


def _mapping(value: object) -> Any:
    """`model_kwargs="device_map=auto trust_remote_code=True"`, as OpenCompass spells it, is a mapping as well."""
    return spelt_mapping(value) if isinstance(value, str) else _typed(value)


def _generation_mapping(value: object) -> Any:
    """The same of gen_kwargs, whose stop strings are texts as they stand: a line break is no null, and 5 no number."""
    if not isinstance(value, str | dict):
        return value
    if isinstance(value, str) and "\\" in value:
        raise ValueError("a backslash means nothing in 'key=value': write '{until: [\"\\n\"], ...}'")
    if isinstance(value, str) and not re.search("['\"]", value):
        value = re.sub(r",(?=[a-z_]+=)", " ", value)  # as lm-eval spells it
    given = _pairs(value) if isinstance(value, str) else value
    stops = {key: given[key] for key in given if OF_LM_EVAL.get(key, key) == "stop"}
    if isinstance(value, str):
        stops |= _values({key: text for key, text in stops.items() if text[:1] == "["}, yaml.BaseLoader)
    others = {key: part for key, part in given.items() if key not in stops}
    return (_values(others) if isinstance(value, str) else _typed(others)) | stops


def spelt_mapping(text: str) -> dict[str, Any]:
    """The mapping that `key=value key=value` means. Raises ValueError."""
    return _values(_pairs(text))


def _pairs(text: str) -> dict[str, str]:
    """The texts of `key=value key=value`. Raises ValueError."""
    try:
        pairs = [part.partition("=") for part in shlex.split(text)]
    except ValueError as error:
        raise ValueError(f"{error}: write '{{key: value, ...}}'") from None
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("write '{key: value, ...}' or 'key=value key=value'")
    keys = [key for key, _, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]} stands twice: keep one")
    return {key: text for key, _, text in pairs}


def _values(texts: dict[str, str], loader: Any = None) -> dict[str, Any]:
    """Texts as YAML reads them. Raises ValueError."""
    try:
        return {key: load_yaml(text, loader) for key, text in texts.items()}
    except yaml.YAMLError as error:
        raise ValueError(f"a value is not valid YAML: {getattr(error, 'problem', error)}") from None


def _typed(value: object) -> Any:
    """Numbers, true, false and null: in `--config 'model_kwargs={use_cache: false}'` Snakemake leaves them as text."""
    if isinstance(value, dict):
        return {key: _typed(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_typed(part) for part in value]
    try:
        read = load_yaml(value) if isinstance(value, str) and value else value
    except yaml.YAMLError:
        return value
    return read if isinstance(read, bool | int | float | None) else value


OF_LM_EVAL = {
    "until": "stop",
    "max_gen_toks": "max_new_tokens",
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
}
"lm-eval's names of settings of generation, and ours."
ONE_OFF = ("revision", "tokenizer_path", "adapter", "adapter_revision", "model_kwargs", "tokenizer_kwargs")
"Settings of a model that `--config` may give beside hf_path."


def _kind_of_limit(value: object) -> str:
    if isinstance(value, dict | Settings):
        return "group"
    return "fraction" if isinstance(value, float) and not value.is_integer() else "rows"


Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[
    Annotated[PositiveInt, Tag("rows")] | Annotated[Fraction, Tag("fraction")], Discriminator(_kind_of_limit)
]
"A number of rows, or a fraction of them."


class GroupLimit(Settings):
    """A limit for each group of a data set by itself."""

    per_group: Share
    "How many rows of each group (`group_by`; of lm-eval's, each task), or which fraction of them, rounded up."


Limit = Annotated[
    Annotated[PositiveInt, Tag("rows")] | Annotated[Fraction, Tag("fraction")] | Annotated[GroupLimit, Tag("group")],
    Discriminator(_kind_of_limit),
]


def _number(value: object) -> Any:
    """A limit as YAML means it; yes and no are none."""
    value = _typed(value)
    inner = value.get("per_group") if isinstance(value, dict) else value
    if isinstance(inner, bool):
        raise ValueError("give a number of rows, a fraction such as 0.1, or {per_group: 5}")
    return value


Names = Annotated[list[str], BeforeValidator(_names)]
Mapping = Annotated[dict[str, Any], BeforeValidator(_mapping)]
GenerationMapping = Annotated[dict[str, Any], BeforeValidator(_generation_mapping)]
OF_GENERATION: dict[str, TypeAdapter[Any]] = {
    key: TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for key, field in Generation.model_fields.items()
}
"What the value of each setting of generation may be."
ESCAPED = re.compile(r"(\\[nrt])+(?![a-z])")
"What was meant as line breaks or tabs, and is a backslash and a letter."


def _wrong_setting(key: str, value: object) -> str:
    """What is wrong with the value of a setting of generation, whatever the data sets; "" if nothing."""
    if key == "do_sample":
        return "" if isinstance(value, bool) else f"do_sample: write true or false (found {value!r})"
    name = OF_LM_EVAL.get(key, key)
    value = [value] if name == "stop" and isinstance(value, str) else value
    if isinstance(value, bool):
        return f"{key}: expected a number (found {value!r})"
    try:
        checked = OF_GENERATION[name].validate_python(value)
    except ValidationError as error:
        detail = error.errors()[0]
        told = f"{detail['msg'][0].lower()}{detail['msg'][1:]} (found {detail['input']!r})"
        return f"{key}: {told}{': put it in quotes' if detail['type'] == 'string_type' else ''}"
    if name == "stop" and (odd := [text for text in checked if ESCAPED.match(text)]):
        return (
            f'{key}: {odd[0]} begins with a backslash, not with a line break: in YAML that is "\\n", in double quotes'
        )
    return ""


class RunConfig(Settings):
    """A run: every model named here is evaluated on every data set named here."""

    run: str = Field("default", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    "The run's name: its report is results/reports/{run}/index.html."
    models: Names = Field(default=[])
    "Names of files in config/models, or globs such as `qwen*`."
    datasets: Names = Field(default=[])
    "Names of files in config/datasets, or globs such as `*_ppl`; `lm_eval:NAME` is a task of lm-evaluation-harness."
    lm_eval_path: str | None = None
    "Where lm-eval's tasks are: an environment or package that has it, or a folder of YAML files in its format."
    lm_eval_code: bool = False
    "Allow lm-eval's tasks to execute their own Python code, which most of them have; it runs with your rights."
    lm_eval_data: str = "config/lm_eval/data.yaml"
    "Which files below data_root stand for the Hub data sets that lm-eval's tasks name."
    num_fewshot: int | None = Field(None, ge=0)
    "How many examples, for all data sets that have any (of lm-eval's tasks, unless one says 0); null: their own."
    fewshot_seed: int | None = Field(None, ge=0)
    "Another number draws other examples where they are drawn by lot; null: those of the files."
    apply_chat_template: Chat | None = None
    "Ask in chats, which each model puts into words of its own; auto: those with a template. null: as the files say."
    fewshot_as_multiturn: bool | None = None
    "In a chat, examples are turns of their own; false: they stand before the question, in one message."
    system_instruction: str | None = None
    "What stands before all else, in a chat in the system's message."
    gen_kwargs: GenerationMapping = Field(default={})
    "How answers are generated, over what the files say, e.g. {temperature: 0.7, max_new_tokens: 512}."
    limit: Annotated[Limit | None, BeforeValidator(_number)] = None
    "How many rows of each data set, a fraction of them (0.1), or {per_group: 5} of each group; null for all."
    data_root: str | None = None
    "A folder of JSON-lines files to read instead of the Hub: each data set's `source.local` is a path in it."
    results: str = Field("results", pattern=r"^[^{}]+$")
    "The folder for everything a run writes."
    scratch: str | None = None
    "A folder on a disk of the node, such as `$SLURM_TMPDIR`: jobs copy weights there once and load them from it."
    frozen: bool = False
    "Refuse to run if config/benchmark.lock would change: other files, rows or commits, or an entry that is not there."
    max_shard_size: PositiveInt = 1024
    "About how many requests an inference job has at most."
    max_shard_cost: PositiveFloat = 1800
    "About how many seconds an inference job takes at most, as far as can be told before."
    max_job_cost: float | None = Field(None, ge=0)
    "On a cluster, about how many seconds of a model's shards a job does; null for max_shard_cost, 0 for one shard."
    max_num_workers: PositiveInt | None = None
    "The most inference jobs at once; null for as many as the devices and cores allow."
    progress_seconds: float = Field(60, ge=0)
    "Seconds between progress lines; 0 turns them off."

    num_gpus: int | None = Field(None, ge=0)
    "Overrides the models' own num_gpus; 0 runs on the CPU."
    batch_size: PositiveInt | Literal["auto"] | None = None
    "Overrides the models' own batch_size."
    batch_padding: bool | None = None
    "Overrides the models' own batch_padding."
    max_seq_len: PositiveInt | None = None
    "Overrides the models' own max_seq_len, in tokens."
    max_out_len: PositiveInt | None = None
    "Overrides the models' own max_out_len, in tokens."
    dtype: Dtype | None = None
    "Overrides the models' own dtype."

    hf_path: str | None = None
    "A model without a file in config/models: a folder or a Hub id, evaluated instead of `models`."
    revision: str | None = None
    "The branch, tag or commit of hf_path on the Hub."
    tokenizer_path: str | None = None
    "Where the tokenizer of hf_path is, if not beside its weights."
    adapter: str | None = None
    "A PEFT adapter for hf_path: a folder or a Hub id."
    adapter_revision: str | None = None
    "The branch, tag or commit of the adapter on the Hub."
    model_kwargs: Mapping = Field(default={})
    "Passed on to AutoModelForCausalLM.from_pretrained for hf_path, e.g. {device_map: auto}."
    tokenizer_kwargs: Mapping = Field(default={})
    "Passed on to AutoTokenizer.from_pretrained for hf_path, e.g. {use_fast: false}."

    @field_validator("num_fewshot", "fewshot_seed", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("give a number")
        return value

    @field_validator("gen_kwargs")
    @classmethod
    def _known_kwargs(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Settings of generation by our names or lm-eval's, each once."""
        known = [*Generation.model_fields, *OF_LM_EVAL, "do_sample"]
        if unknown := [key for key in given if key not in known]:
            raise ValueError(f"{unknown[0]} is no setting of generation: {nearest(unknown[0], known)}")
        names = [OF_LM_EVAL.get(key, key) for key in given]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            both = [key for key in given if OF_LM_EVAL.get(key, key) == twice[0]]
            raise ValueError(f"{' and '.join(both)} are the same: keep one")
        if wrong := [what for key, value in given.items() if (what := _wrong_setting(key, value))]:
            raise ValueError("; ".join(wrong))
        if given.get("do_sample") is False and given.get("temperature"):
            raise ValueError("do_sample is false, and temperature is above 0: keep one")
        if given.get("do_sample") is True and not given.get("temperature"):
            raise ValueError("do_sample is true: say at which temperature above 0")
        return given

    @model_validator(mode="after")
    def _one_off(self) -> "RunConfig":
        given = [key for key in ONE_OFF if getattr(self, key)]
        if given and not self.hf_path:
            raise ValueError(f"{', '.join(given)}: only with hf_path; for a model of config/models edit its file")
        return self
