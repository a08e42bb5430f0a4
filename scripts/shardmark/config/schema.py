"""JSON schemas for editors, generated from the settings' types."""

from typing import Any

from shardmark.config.dataset import DatasetConfig
from shardmark.config.group import GroupConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.model import ModelConfig
from shardmark.config.run import RunConfig
from shardmark.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each kind of file, by the file name it has in config/schemas."""
    kinds: dict[str, type[Settings]] = {
        "config": RunConfig,
        "model": ModelConfig,
        "dataset": DatasetConfig,
        "lm_eval": LmEvalConfig,
        "group": GroupConfig,
    }
    return {f"{name}.schema.json": {"$schema": DIALECT, **_schema(kind)} for name, kind in kinds.items()}


def _schema(kind: type[Settings]) -> dict[str, Any]:
    """The schema of a kind of file; what it requires may come from a file that it includes."""
    schema = kind.model_json_schema()
    if "include" in schema["properties"] and "required" in schema:
        schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["include"]}]
    return schema
