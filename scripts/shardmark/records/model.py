"""A model as planned (results/models/*.json), the places of its files, and the folders they were staged in."""

from typing import Any, Self

from msgspec import UNSET, UnsetType, field
from msgspec.structs import replace

from shardmark import layout
from shardmark.config.model import ModelConfig
from shardmark.config.weights import WeightsConfig
from shardmark.config.wording import WordedConfig
from shardmark.files import digest
from shardmark.records.base import Record
from shardmark.records.engine import PlannedEngine


class Place(Record):
    """The place of files, or the service that answers instead."""

    def bare(self) -> Self:
        """The place without facts that were only looked up: scores must not depend on who planned them, and where."""
        learnt = {name: UNSET for name in ("parameters", "files") if hasattr(self, name)}
        return replace(self, **learnt)


class Folder(Place, tag_field="kind", tag="local"):
    """A folder on this machine in Hugging Face format."""

    path: str
    identity: dict[str, str]
    "The SHA-256 of each of its files that belongs to a model."
    parameters: int | UnsetType | None = UNSET
    "The number of parameters of a model with these weights; null if unknown. Not a part of a model's identity."


class Commit(Record):
    """A commit of a repository on the Hub."""

    repository: str
    commit: str


class HubFile(Record, omit_defaults=True):
    """The Hub's facts about a file of a commit."""

    size: int | None = None
    "In bytes; None if only a cache's layout tells of the file."
    sha256: str | None = None
    "Known for big files."
    git: str | None = None
    "Git's name for the content, known for small files."


class HubRepository(Place, tag_field="kind", tag="hub"):
    """A repository on the Hub."""

    path: str
    identity: Commit
    parameters: int | UnsetType | None = UNSET
    "As in `Folder`."
    files: dict[str, HubFile] | UnsetType = UNSET
    "The lock's facts about the needed files. Not a part of a model's identity either: the commit determines them."


class GgufIdentity(Record):
    """The content of a GGUF file."""

    gguf: str
    "The file's SHA-256."
    settings: dict[str, Any] | UnsetType = UNSET
    "Settings of config.json that transformers does not take from the file."
    tokenizer: dict[str, bool] | UnsetType = UNSET
    "Settings of the file's tokenizer that transformers does not take from it, unless a model has another tokenizer."

    @property
    def folder(self) -> str:
        """The name of the folder with the weights and the tokenizer made of it."""
        settings = [self.settings or {}, self.tokenizer] if self.tokenizer else self.settings
        return self.gguf[:16] + (f"-{digest(settings)[:8]}" if settings else "")


class GgufFile(Place, tag_field="kind", tag="gguf"):
    """A GGUF file, with weights and a tokenizer."""

    path: str
    identity: GgufIdentity
    bytes: int
    parameters: int | UnsetType | None = UNSET
    "As in `Folder`."


class Service(Place, tag_field="kind", tag="service"):
    """A service that answers without weights of ours: nothing is staged, and nothing of it has a hash."""

    path: str
    "Its address or another name for it."
    identity: dict[str, str] = field(default_factory=dict)
    parameters: int | UnsetType | None = UNSET
    "As in `Folder`."


Location = Folder | HubRepository
"The place of a tokenizer or an adapter."
Source = Location | GgufFile | Service
"The place of weights, or the service that answers instead."


class ModelRecord(Record, kw_only=True):
    """A model as a plan has resolved it."""

    name: str
    digest: str
    "The digest of everything that can change its answers."
    file: str
    "Its file in config/models, for messages."
    source: Source
    tokenizer: Location | None
    "None if the tokenizer is beside the weights."
    adapter: Location | None = None
    dtype: str | None
    "None if unknown."
    settings: ModelConfig
    engines: list[PlannedEngine] | UnsetType = UNSET
    """The engines and the requests that each answers, if not one engine in the job's own Python. Not a part of the
    digest."""

    @property
    def full_name(self) -> str:
        """The name that its results are filed under."""
        return layout.full_name(self.name, self.digest)

    @property
    def words(self) -> Source:
        """The place of its tokenizer."""
        return self.tokenizer or self.source

    @property
    def locations(self) -> list[Source]:
        """The places of its files."""
        return [place for place in (self.source, self.tokenizer, self.adapter) if place]

    @property
    def weights(self) -> WeightsConfig:
        """The settings of a model whose weights are loaded here. Raises TypeError for any other."""
        if not isinstance(self.settings, WeightsConfig):
            raise TypeError(f"model {self.name} ({self.settings.backend}) has no weights here")
        return self.settings

    @property
    def wording(self) -> WordedConfig:
        """The settings of a model whose prompts are worded here. Raises TypeError for any other."""
        if not isinstance(self.settings, WordedConfig):
            raise TypeError(f"prompts are not rendered here for model {self.name} ({self.settings.backend})")
        return self.settings

    @property
    def parameters(self) -> int | None:
        """The number of its parameters, if known."""
        return self.source.parameters or None

    @property
    def on_gpus(self) -> bool:
        """Whether it runs on GPUs."""
        return self.settings.num_gpus > 0


class Staged(Record, omit_defaults=True):
    """The folders that a model is loaded from (results/staged/*.json)."""

    model: str
    "Empty for a service, as is the tokenizer if the service has none here."
    tokenizer: str
    adapter: str | None = None

    @property
    def folders(self) -> list[str]:
        """All folders, each once."""
        return list(dict.fromkeys(folder for folder in (self.model, self.tokenizer, self.adapter) if folder))
