"""YAML files, read strictly: what stands twice is an error."""

from pathlib import Path
from typing import Any

import yaml

from shardmark.errors import Problem


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, not a silent overwrite."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    nodes = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]  # `<<: *anchor`
    keys = [loader.construct_object(key, deep=True) for key in nodes]
    for key_node, key in zip(nodes, keys, strict=True):
        if keys.count(key) > 1:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
    return loader.construct_mapping(node, deep=True)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path, where: str, problems: list[Problem]) -> Any:
    """A YAML file's value, or None with a problem that names the line in `where`."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}" if mark else where
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        problems.append(Problem(place, "", f"not valid YAML: {what}", "mend the file"))
        return None
