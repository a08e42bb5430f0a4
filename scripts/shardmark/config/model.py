"""config/models/*.yaml, one file per model: the keys that models of all backends share; see backends/."""

from abc import abstractmethod
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, ClassVar, Self

from pydantic import Field, PositiveInt

from shardmark.config import backends
from shardmark.config.base import Chat
from shardmark.errors import nearest
from shardmark.settings import Settings

KINDS = frozenset({"generate", "choice", "rolling"})
"The kinds of requests: to continue a text, and for log-likelihoods of continuations or of whole texts."
USUAL = "transformers"
"The backend of a file that names none."


class SlurmConfig(Settings):
    """A model's requests to a Slurm cluster, where they differ from the profile's default-resources."""

    partition: str | None = None
    "The partition (queue) for the model's jobs."
    account: str | None = None
    "The account that is charged for them."
    qos: str | None = None
    "Their quality of service."
    constraint: str | None = None
    "Features that their nodes must have, such as `a100|h100`."
    runtime: PositiveInt | None = None
    "Minutes that a job may take, times the attempt; predicted from earlier jobs if null."
    mem_mb: PositiveInt | None = None
    "Main memory of a job in MB, times the attempt; predicted from the size of the weights if null."
    extra: str | None = None
    "More flags for sbatch, such as `--exclude=node7`."


class ModelConfig(Settings):
    """A model, and the devices it needs. The file's name is the model's name."""

    factory: ClassVar[str]
    "The `module:function` that makes its Backend from record, staged folders and a heartbeat (engine/backend.py)."
    protocol: ClassVar[int]
    "Raised whenever the backend would answer a request differently than before, which invalidates older predictions."
    elsewhere: ClassVar[bool] = False
    "Whether it runs on other people's machines, so that its jobs need a network and no device."

    include: str | list[str] = Field(default=[], exclude=True)
    "Names of other files here whose keys apply unless this file has them. Mappings merge, null removes a key."

    description: str = ""
    "One line for the report."
    backend: str
    "The backend that runs the model."
    num_gpus: int = Field(1, ge=0)
    "GPUs that a job of this model has to itself; 0 runs on the CPU."
    cpus: PositiveInt = 4
    "Cores per job (at most those given to Snakemake)."
    max_out_len: PositiveInt | None = None
    "The most tokens of an answer, whatever the data set asks for."
    apply_chat_template: Chat | None = None
    "Ask it in chats; auto: if it has a template for them. A run or a data set takes precedence. null: no."
    slurm: SlurmConfig = Field(default=SlurmConfig())
    "Requests of its jobs to a Slurm cluster, where they differ from the profile."

    @classmethod
    def as_written(cls, values: object) -> Self:
        """The settings in a record, with the class of their backend. Raises ValueError."""
        if cls is not ModelConfig:
            return super().as_written(values)
        return settings_of(values).as_written(values)  # type: ignore[return-value]  # it is a ModelConfig

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer, besides the model's files: the digest covers them."""

    @property
    @abstractmethod
    def place(self) -> str:
        """The model's place, in a few words for tables: a path, an id on the Hub, an address."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of requests that it answers; the plan refuses data sets of others."""
        return KINDS

    def answer_tokens(self, asked: int) -> int:
        """The most tokens of an answer if a data set asks for `asked`."""
        return min(asked, self.max_out_len or asked)

    @property
    def asks_chats(self) -> bool:
        """Whether everything is asked in chats by default because it accepts nothing else."""
        return False

    @property
    def rows_in_batch(self) -> int | str:
        """How many requests share a batch, for the record; auto if the backend decides."""
        return "auto"

    def engines(self) -> dict[str, list[str]]:
        """The kinds of requests that each engine of the backend answers; empty if one engine answers all."""
        return {}

    def factory_of(self, engine: str) -> str:
        """The `factory` of one of `engines`."""
        return self.factory

    def package_names(self) -> list[str]:
        """The Python packages whose versions belong to the provenance of its answers."""
        return []


@cache
def backend_names() -> list[str]:
    """The names of all backends."""
    return sorted(module.name for module in iter_modules(backends.__path__))


@cache
def settings_class(name: str) -> type[ModelConfig]:
    """The class of the settings of a backend's models. Raises ValueError if there is none of that name."""
    if name not in backend_names():
        raise ValueError(f"there is no backend {name!r}: {nearest(name, backend_names())}")
    module = import_module(f"{backends.__name__}.{name}")
    found: type[ModelConfig] = module.SETTINGS
    return found


def settings_of(values: object) -> type[ModelConfig]:
    """The class of the settings in a model's values. Raises ValueError for an unknown backend."""
    name = values.get("backend", USUAL) if isinstance(values, dict) else USUAL
    return settings_class(str(name))
