"""config/config.yaml: the models and data sets of a run, and the one-off settings of `--config`."""

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


def names_in(value: object) -> Any:
    """Accept `models=a,b` from the command line, which is one string, as is `[*_ppl]`, whose star is not YAML."""
    if not isinstance(value, str):
        return value
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return [part.strip(" '\"") for part in inner.split(",") if part.strip()]


def _mapping(value: object) -> Any:
    """Accept `model_kwargs="device_map=auto trust_remote_code=True"`, OpenCompass's spelling of a mapping."""
    return spelt_mapping(value) if isinstance(value, str) else _typed(value)


def _generation_mapping(value: object) -> Any:
    """The same for gen_kwargs, whose stop strings are taken verbatim: a line break is not null, and 5 not a number."""
    if not isinstance(value, str | dict):
        return value
    if isinstance(value, str) and "\\" in value:
        raise ValueError("a backslash has no meaning in 'key=value': write '{until: [\"\\n\"], ...}'")
    if isinstance(value, str) and not re.search("['\"]", value):
        value = re.sub(r",(?=[a-z_]+=)", " ", value)  # as lm-eval spells it
    given = _pairs(value) if isinstance(value, str) else value
    stops = {key: given[key] for key in given if OF_LM_EVAL.get(key, key) == "stop"}
    if isinstance(value, str):
        stops |= _values({key: text for key, text in stops.items() if text[:1] == "["}, yaml.BaseLoader)
    others = {key: part for key, part in given.items() if key not in stops}
    return (_values(others) if isinstance(value, str) else _typed(others)) | stops


def spelt_mapping(text: str) -> dict[str, Any]:
    """The mapping in `key=value key=value`. Raises ValueError."""
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
        raise ValueError(f"{twice[0]} occurs twice: keep one")
    return {key: text for key, _, text in pairs}


def _values(texts: dict[str, str], loader: Any = None) -> dict[str, Any]:
    """The texts' values as YAML. Raises ValueError."""
    try:
        return {key: load_yaml(text, loader) for key, text in texts.items()}
    except yaml.YAMLError as error:
        raise ValueError(f"a value is not valid YAML: {getattr(error, 'problem', error)}") from None


def _typed(value: object) -> Any:
    """Convert numbers, booleans and null, which Snakemake leaves as text, as in `model_kwargs={use_cache: false}`."""
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
STORES = ("file", "s3", "hf", "gs", "gcs", "az", "abfs", "sftp")
"The possible schemes of a shared store's address."
ONE_OFF = ("revision", "tokenizer_path", "adapter", "adapter_revision", "model_kwargs", "tokenizer_kwargs")
"Settings of a model that `--config` may give besides hf_path."


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
    """A limit for each group of a data set separately."""

    per_group: Share
    "How many rows of each group (`group_by`; for lm-eval's, each task), or which fraction of them, rounded up."


Limit = Annotated[
    Annotated[PositiveInt, Tag("rows")] | Annotated[Fraction, Tag("fraction")] | Annotated[GroupLimit, Tag("group")],
    Discriminator(_kind_of_limit),
]


def _number(value: object) -> Any:
    """A limit in YAML's types; yes and no are refused."""
    value = _typed(value)
    inner = value.get("per_group") if isinstance(value, dict) else value
    if isinstance(inner, bool):
        raise ValueError("give a number of rows, a fraction such as 0.1, or {per_group: 5}")
    return value


Names = Annotated[list[str], BeforeValidator(names_in)]
Mapping = Annotated[dict[str, Any], BeforeValidator(_mapping)]
GenerationMapping = Annotated[dict[str, Any], BeforeValidator(_generation_mapping)]
OF_GENERATION: dict[str, TypeAdapter[Any]] = {
    key: TypeAdapter(Annotated[field.annotation, field])  # type: ignore[arg-type]
    for key, field in Generation.model_fields.items()
}
"The type of each setting of generation."
ESCAPED = re.compile(r"(\\[nrt])+(?![a-z])")
"Text that was meant as line breaks or tabs, but is a backslash and a letter."


def _wrong_setting(key: str, value: object) -> str:
    """The fault in the value of a setting of generation, whatever the data sets; "" if there is none."""
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
    "The source of lm-eval's tasks: an environment or package that has it, or a folder of YAML files in its format."
    lm_eval_code: bool = False
    "Allow lm-eval's tasks to execute their own Python code, which most of them have; it runs with your permissions."
    own_code: bool = False
    "Allow data sets' metrics and filters that are Python files; they run with your permissions."
    lm_eval_data: str = "config/lm_eval/data.yaml"
    "The file that maps Hub data sets of lm-eval's tasks to files below data_root."
    lm_eval_metadata: Mapping = Field(default={})
    "More metadata for lm-eval's tasks that generate rows, e.g. {tokenizer: org/model, max_seq_lengths: [4096]}."
    num_fewshot: int | None = Field(None, ge=0)
    "How many examples, for all data sets that have any (of lm-eval's tasks, unless one has 0); null: their own."
    fewshot_seed: int | None = Field(None, ge=0)
    "Another number picks other examples where they are random; null: the seeds of the files."
    apply_chat_template: Chat | None = None
    "Ask in chats, worded by each model's own template; auto: the models with a template. null: as the files say."
    fewshot_as_multiturn: bool | None = None
    "In a chat, examples are separate turns; false: they come before the question, in one message."
    system_instruction: str | None = None
    "Text before everything else; in a chat, the system's message."
    gen_kwargs: GenerationMapping = Field(default={})
    "Settings of generation that override the files', e.g. {temperature: 0.7, max_new_tokens: 512}."
    limit: Annotated[Limit | None, BeforeValidator(_number)] = None
    "How many rows of each data set, a fraction of them (0.1), or {per_group: 5} of each group; null for all."
    mean_weights: Annotated[dict[str, PositiveFloat], BeforeValidator(_mapping)] = Field(default={})
    "Weights of data sets and groups in the mean that ranks models, e.g. {mmlu: 3, gsm8k: 2}; others weigh 1."
    data_root: str | None = None
    "A folder of files to read instead of the Hub: each data set's `source.local` is a path in it."
    results: str = Field("results", pattern=r"^[^{}]+$")
    "The folder for everything a run writes."
    scratch: str | None = None
    "A folder on a local disk of the node, such as `$SLURM_TMPDIR`: jobs copy weights there once and load them from it."
    vllm_python: str | None = None
    "The Python that has vLLM, as PATH/bin/python; null for .venv-vllm, which `make vllm` makes, or Shardmark's own."
    rescore: bool = False
    "Infer nothing: score and report the existing answers, even if models, data files or the Hub are gone."
    container: str | None = None
    "The image that jobs run in with `--sdm apptainer`: the shardmark.sif made from envs/shardmark.def, or docker://..."
    frozen: bool = False
    "Refuse to run if config/benchmark.lock would change: other files, rows or commits, or a missing entry."
    store: str | None = None
    "A folder or address (s3://bucket/prefix) with answers that several results folders share; null for none."
    store_trust: Literal["own", "all"] = "own"
    "Whose answers are taken from the store: those signed with your key, or everybody's."
    offline: bool | Literal["auto"] = False
    "Don't contact the Hub: everything must be in its cache (`snakemake stage`). auto: only if it does not answer."
    max_shard_size: PositiveInt = 1024
    "The approximate maximum number of requests of an inference job."
    max_shard_cost: PositiveFloat = 1800
    "The approximate maximum duration of an inference job in seconds, as far as it can be predicted."
    max_job_cost: float | None = Field(None, ge=0)
    "On a cluster, roughly how many seconds of a model's shards a job does; null for max_shard_cost, 0 for one shard."
    max_num_workers: PositiveInt | None = None
    "The most inference jobs at once; null for as many as devices and cores allow."
    max_cost: PositiveFloat | None = None
    "The most that endpoints may cost in this run, restarts included, in their prices' currency; null for no limit."
    probe_seconds: float = Field(60, ge=0)
    "Seconds to wait for a Slurm node that a tiny job checks before the first job, once a day; 0 asks for none."
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
    "The tokenizer of hf_path, if it is not beside its weights."
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

    @field_validator("store")
    @classmethod
    def _without_secrets(cls, store: str | None) -> str | None:
        scheme, separator, place = (store or "file").partition("://")
        if separator and ("@" in place.partition("/")[0] or "?" in place):
            raise ValueError(
                "must not contain a key or password: put it into the environment variables that its client reads"
            )
        if separator and scheme not in STORES:
            raise ValueError(
                f"{scheme}:// is not supported: give a folder or one of {', '.join(f'{known}://' for known in STORES)}"
            )
        if separator and not place.strip("/"):
            raise ValueError(f"{store} names no bucket")
        return store

    @field_validator("gen_kwargs")
    @classmethod
    def _known_kwargs(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Settings of generation by our names or lm-eval's, each once."""
        known = [*Generation.model_fields, *OF_LM_EVAL, "do_sample"]
        if unknown := [key for key in given if key not in known]:
            raise ValueError(f"{unknown[0]} is not a setting of generation: {nearest(unknown[0], known)}")
        names = [OF_LM_EVAL.get(key, key) for key in given]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            both = [key for key in given if OF_LM_EVAL.get(key, key) == twice[0]]
            raise ValueError(f"{' and '.join(both)} are the same: keep one")
        if wrong := [what for key, value in given.items() if (what := _wrong_setting(key, value))]:
            raise ValueError("; ".join(wrong))
        if given.get("do_sample") is False and given.get("temperature"):
            raise ValueError("do_sample is false, but temperature is above 0: keep one")
        if given.get("do_sample") is True and not given.get("temperature"):
            raise ValueError("do_sample is true: set a temperature above 0, too")
        return given

    @model_validator(mode="after")
    def _one_off(self) -> "RunConfig":
        given = [key for key in ONE_OFF if getattr(self, key)]
        if given and not self.hf_path:
            raise ValueError(f"{', '.join(given)}: only for hf_path; for a model in config/models, edit its file")
        return self
