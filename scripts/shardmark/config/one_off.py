"""The name of a run whose models the command line gave: its report must not replace that of the file's own run."""

import re
from collections.abc import Collection
from typing import Any

from shardmark.files import digest

CHOOSING = ("hf_path", "models", "datasets")
LONGEST = 60
"The most characters of such a name, before the digest of what it leaves out."


def one_off_name(config: dict[str, Any], command_line: Collection[str], name: str = "default") -> str:
    """The name of a run: the given one, unless the command line chose models and no name.

    Then it is the given name, the models, and the data sets if the command line chose them, too. `config` is the merged
    configuration.
    """
    given = {*command_line}
    named = str(config.get("run", name))
    if "run" in given or given.isdisjoint(("hf_path", "models")):
        return named
    chosen = [_words(config[key]) for key in CHOOSING if key in given and config.get(key)]
    text = "-on-".join(chosen)
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text.replace("*", "all")).strip("-.")
    whole = f"{named}-{plain}"
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}-{digest(text)[:8]}"


def _words(value: Any) -> str:
    """The last parts of paths and names, joined."""
    names = value if isinstance(value, list) else str(value).strip("[]").split(",")
    return "-".join(str(name).strip(" '\"").rstrip("/").rpartition("/")[2].removeprefix("lm_eval:") for name in names)
