"""Typed settings: the user's configuration, checked."""

from shardmark.config.dataset import DatasetConfig
from shardmark.config.few_shot import FewShot
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.load import Benchmark, Named, load, place_of
from shardmark.config.model import ModelConfig
from shardmark.config.run import RunConfig
from shardmark.config.schema import schemas

__all__ = [
    "Benchmark",
    "DatasetConfig",
    "FewShot",
    "LmEvalConfig",
    "ModelConfig",
    "Named",
    "RunConfig",
    "load",
    "place_of",
    "schemas",
]
