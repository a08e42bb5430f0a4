"""The part of a model record that clients of workers read: a client starts for every shard, and checks nothing."""

import msgspec


class BriefEngine(msgspec.Struct, frozen=True):
    """The part of a `PlannedEngine`."""

    name: str = ""
    kinds: list[str] | None = None
    "None for all kinds."
    python: str = ""
    "Empty for the client's own."


class BriefSettings(msgspec.Struct, frozen=True):
    """The part of a model's settings."""

    num_gpus: int
    backend: str = "transformers"


class ModelBrief(msgspec.Struct, frozen=True):
    """The part of a `ModelRecord`, read without importing the classes of its settings."""

    name: str
    file: str
    settings: BriefSettings
    engines: list[BriefEngine] = msgspec.field(default_factory=lambda: [BriefEngine()])
