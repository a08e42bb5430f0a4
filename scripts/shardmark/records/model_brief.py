"""The part of a model record that clients of workers read.

A client starts for every shard: it checks little, and does without msgspec, whose import takes 11 ms.
"""

import json
from pathlib import Path
from typing import NamedTuple

from shardmark.errors import Problem, UserError


class BriefEngine(NamedTuple):
    """A `PlannedEngine`, or the only engine of a model that has none planned."""

    name: str = ""
    kinds: list[str] | None = None
    "None for all kinds."
    python: str = ""
    "Empty for the client's own."


class ModelBrief(NamedTuple):
    """The part of a `ModelRecord`."""

    path: Path
    text: str
    "The whole record; workers whose record has another text are not this model's."
    name: str
    file: str
    num_gpus: int
    backend: str
    trust_remote_code: bool
    engines: list[BriefEngine]

    @property
    def needs_workers(self) -> bool:
        """Whether the model runs in another Python, or in two engines alternately: it then always needs workers."""
        return self.engines != [BriefEngine()]


def read_brief(path: Path) -> ModelBrief:
    """The part of the model record in a file. Raises UserError."""
    try:
        text = path.read_text()
        record = json.loads(text)
        settings, engines = record["settings"], record.get("engines") or [{}]
        backend, planned = settings.get("backend", "transformers"), [BriefEngine(**engine) for engine in engines]
        gpus, trust = settings["num_gpus"], settings.get("trust_remote_code", False)
        return ModelBrief(path, text, record["name"], record["file"], gpus, backend, trust, planned)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        fix = "delete it; the next run recreates it"
        raise UserError(Problem(str(path), "", f"cannot be read: {error!r}", fix)) from error
