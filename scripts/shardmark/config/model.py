"""config/models/*.yaml: one file a model."""

from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from shardmark.config.base import Dtype, Settings

OWN_KEYS = {"dtype": "dtype", "torch_dtype": "dtype", "trust_remote_code": "trust_remote_code"}
"Arguments of from_pretrained that are settings of their own here, because the plan must know them."


class SlurmConfig(Settings):
    """What the jobs of one model ask of a Slurm cluster, where that differs from the profile's default-resources."""

    partition: str | None = None
    "The partition (queue) for the model's jobs."
    account: str | None = None
    "The account that pays for them."
    qos: str | None = None
    "Their quality of service."
    constraint: str | None = None
    "Features that their nodes must have, such as `a100|h100`."
    runtime: PositiveInt | None = None
    "Minutes a job may take, times the attempt; predicted from earlier jobs if null."
    mem_mb: PositiveInt | None = None
    "Main memory of a job in MB, times the attempt; predicted from the size of the weights if null."
    extra: str | None = None
    "More flags for sbatch, such as `--exclude=node7`."


class ModelConfig(Settings):
    """A model, how it is loaded, and the devices it needs. The file's name is the model's name."""

    description: str = ""
    "One line for the report."
    backend: Literal["transformers"] = "transformers"
    "What runs the model."
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
    dtype: Dtype = "auto"
    "The weights' type while running; auto is bfloat16 on GPUs and float32 on the CPU."
    num_gpus: int = Field(1, ge=0)
    "GPUs a job of this model takes for itself; 0 runs on the CPU."
    cpus: PositiveInt = 4
    "Cores a job takes (at most those given to Snakemake)."
    batch_size: PositiveInt | Literal["auto"] = "auto"
    "Rows in a batch; auto fits it to the memory. Halved when memory runs out in mid-run. Doesn't change a score."
    batch_padding: bool = True
    "false: only rows of equal length share a batch, so that nothing is padded."
    max_seq_len: PositiveInt | None = None
    "The window in tokens (prompt and output); the model's own if null."
    max_out_len: PositiveInt | None = None
    "At most so many generated tokens, whatever the data set asks for."
    slurm: SlurmConfig = Field(default=SlurmConfig())
    "What its jobs ask of a Slurm cluster, where that differs from the profile."
    trust_remote_code: bool = False
    "Run Python code that comes with the weights. Only for sources you trust."
    model_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoModelForCausalLM.from_pretrained."
    tokenizer_kwargs: dict[str, Any] = Field(default={})
    "Passed on to AutoTokenizer.from_pretrained."

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, values: Any) -> Any:
        """dtype, torch_dtype and trust_remote_code among the kwargs mean the settings of those names."""
        if not isinstance(values, dict):
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
        return values

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        sources = [self.path, self.gguf_file, self.gguf_package]
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of path, gguf_file and gguf_package")
        for key in ("truncation", "truncation_side"):
            if self.tokenizer_kwargs.get(key) == "right":
                raise ValueError(f"tokenizer_kwargs.{key} is right, but prompts are always cut on the left: drop it")
        return self
