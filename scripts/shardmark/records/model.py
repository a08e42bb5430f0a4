"""A model as it is planned (results/models/*.json), where its files are, and where they were staged."""

from msgspec import UNSET, UnsetType, field

from shardmark import layout
from shardmark.config.model import ModelConfig
from shardmark.config.weights import WeightsConfig
from shardmark.records.base import Record


class Folder(Record, tag_field="kind", tag="local"):
    """A folder on this machine in Hugging Face format."""

    path: str
    identity: dict[str, str]
    "The SHA-256 of each file in it that belongs to a model."
    parameters: int | UnsetType | None = UNSET
    "How many a model has whose weights these are; null where nobody knows. It is no part of a model's identity."


class Commit(Record):
    """A commit of a repository on the Hub."""

    repository: str
    commit: str


class HubRepository(Record, tag_field="kind", tag="hub"):
    """A repository on the Hub."""

    path: str
    identity: Commit
    parameters: int | UnsetType | None = UNSET
    "As of a folder."


class GgufIdentity(Record):
    """The content of a GGUF file."""

    gguf: str
    "Its SHA-256."


class GgufFile(Record, tag_field="kind", tag="gguf"):
    """A GGUF file, with weights and tokenizer."""

    path: str
    identity: GgufIdentity
    bytes: int
    parameters: int | UnsetType | None = UNSET
    "As of a folder."


class Service(Record, tag_field="kind", tag="service"):
    """What answers without weights of ours: nothing is staged, and nothing of it has a hash."""

    path: str
    "Its address, or what else it is called."
    identity: dict[str, str] = field(default_factory=dict)
    parameters: int | UnsetType | None = UNSET
    "As of a folder."


Location = Folder | HubRepository
"Where a tokenizer or an adapter is."
Source = Location | GgufFile | Service
"Where weights are, or what answers instead."


class ModelRecord(Record, kw_only=True):
    """What a plan has resolved of a model."""

    name: str
    digest: str
    "Of everything that can change its answers."
    file: str
    "Its file in config/models, for messages."
    source: Source
    tokenizer: Location | None
    "None if it is beside the weights."
    adapter: Location | None = None
    dtype: str | None
    "None where nobody knows."
    settings: ModelConfig

    @property
    def full_name(self) -> str:
        """What its results are filed under."""
        return layout.full_name(self.name, self.digest)

    @property
    def words(self) -> Source:
        """Where its tokenizer is."""
        return self.tokenizer or self.source

    @property
    def locations(self) -> list[Source]:
        """Where its files are."""
        return [place for place in (self.source, self.tokenizer, self.adapter) if place]

    @property
    def weights(self) -> WeightsConfig:
        """The settings of a model whose weights are loaded here. Raises TypeError for another."""
        if not isinstance(self.settings, WeightsConfig):
            raise TypeError(f"model {self.name} ({self.settings.backend}) has no weights here")
        return self.settings

    @property
    def parameters(self) -> int | None:
        """How many it has, if somebody knows."""
        return self.source.parameters or None

    @property
    def on_gpus(self) -> bool:
        """Whether it runs on GPUs."""
        return self.settings.num_gpus > 0


class Staged(Record, omit_defaults=True):
    """The folders that a model is loaded from (results/staged/*.json)."""

    model: str
    "Empty for a service, as is the tokenizer."
    tokenizer: str
    adapter: str | None = None

    @property
    def folders(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys(folder for folder in (self.model, self.tokenizer, self.adapter) if folder))
