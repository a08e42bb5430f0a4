"""Parts of a data set, each with its own digest, so that the difference between two scores can be named."""

from collections.abc import Mapping
from typing import Any

from shardmark.config import DatasetConfig
from shardmark.config.search_path import as_spelt
from shardmark.files import digest

PARTS = {
    "rows": ("source", "where", "id_column"),
    "template": (
        *("kind", "preamble", "prompt", "messages", "choices", "continuation", "target", "duplicate_choices"),
        "circular",
    ),
    "few_shot": ("few_shot", "fewshot_as_multiturn"),
    "generation": ("generation",),
    "filters": ("filters", "chains"),
    "metrics": ("metrics", "scoring", "group_by", "group_mean", "cluster_by", "chance"),
    "version": ("version",),
}
"The settings of each part. The plan adds the limit, the content of rows and examples, and protocol numbers."


def components(settings: DatasetConfig, made_from: Mapping[str, Any], protocols: Mapping[str, int]) -> dict[str, str]:
    """The digest of each part of a data set; `made_from` is the content of its rows and examples, and the limit."""
    written = as_spelt(settings.model_dump())
    parts: dict[str, Any] = {
        part: {key: written[key] for key in keys if key in written} for part, keys in PARTS.items()
    }
    parts["rows"] |= {"limit": made_from["limit"]}
    parts["few_shot"] |= {
        f"{key} content": made_from[key] for key in ("few_shot", "embedding_model") if key in made_from
    }
    return of_parts(parts | {"revision": made_from["rows"], "protocol": dict(protocols)})


def of_parts(parts: Mapping[str, Any]) -> dict[str, str]:
    """A digest for each part."""
    return {part: digest(value) for part, value in parts.items()}
