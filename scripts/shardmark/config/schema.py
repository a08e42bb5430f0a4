"""JSON schemas for editors, generated from the settings' types."""

from typing import Any

from shardmark.config.dataset import DatasetConfig
from shardmark.config.gate import GateConfig
from shardmark.config.group import GroupConfig
from shardmark.config.lm_eval import LmEvalConfig
from shardmark.config.model import backend_names, settings_class
from shardmark.config.run import RunConfig
from shardmark.config.suite import SuiteConfig
from shardmark.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schemas() -> dict[str, dict[str, Any]]:
    """The schema of each kind of file, by its file name in config/schemas."""
    kinds: dict[str, type[Settings]] = {
        "config": RunConfig,
        "dataset": DatasetConfig,
        "lm_eval": LmEvalConfig,
        "group": GroupConfig,
        "suite": SuiteConfig,
        "gate": GateConfig,
    }
    found = {name: _schema(kind) for name, kind in kinds.items()} | {"model": _model_schema()}
    return {f"{name}.schema.json": {"$schema": DIALECT, **schema} for name, schema in found.items()}


def _model_schema() -> dict[str, Any]:
    """The schema of a model's file, for any backend."""
    each = [_schema(settings_class(name)) for name in backend_names()]
    if len(each) == 1:
        return each[0]
    parts = {name: part for schema in each for name, part in schema.pop("$defs", {}).items()}  # references start there
    return {"anyOf": each, "$defs": parts}


def _schema(kind: type[Settings]) -> dict[str, Any]:
    """The schema of a kind of file; required keys may come from a file that it includes."""
    schema = kind.model_json_schema()
    if "include" in schema["properties"] and "required" in schema:
        schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["include"]}]
    return schema
