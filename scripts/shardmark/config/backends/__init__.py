"""The backends by name: each module here has `SETTINGS`, the class of its models' files.

A module that is added here is a backend: schemas, validation, plan and jobs find it by its name.
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from shardmark.errors import nearest

if TYPE_CHECKING:
    from shardmark.config.model import ModelConfig

USUAL = "transformers"
"The backend of a file that names none."


@cache
def names() -> list[str]:
    """The names of all backends."""
    return sorted(module.name for module in iter_modules(__path__))


@cache
def settings_class(name: str) -> "type[ModelConfig]":
    """The class of the settings of a backend's models. Raises ValueError if there is none of that name."""
    if name not in names():
        raise ValueError(f"there is no backend {name!r}: {nearest(name, names())}")
    module = import_module(f"{__name__}.{name}")
    found: type[ModelConfig] = module.SETTINGS
    return found


def settings_of(values: Any) -> "type[ModelConfig]":
    """The class of the settings that a model's values are. Raises ValueError for an unknown backend."""
    name = values.get("backend", USUAL) if isinstance(values, dict) else USUAL
    return settings_class(str(name))
