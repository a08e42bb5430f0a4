"""A model record as far as a client of workers reads it: it starts once for every shard, and checks nothing."""

import msgspec


class BriefSettings(msgspec.Struct, frozen=True):
    """Of a model's settings."""

    num_gpus: int


class ModelBrief(msgspec.Struct, frozen=True):
    """Of a `ModelRecord`, without importing what its settings are made of."""

    name: str
    file: str
    settings: BriefSettings
