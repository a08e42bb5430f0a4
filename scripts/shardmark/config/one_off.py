"""The name of a run whose models or data sets the command line gave: its report must not replace the file's own."""

import re
from collections.abc import Collection
from typing import Any

from shardmark.files import digest

CHOOSING = ("hf_path", "models", "datasets")
LONGEST = 60
"The most characters of such a name, before the digest of what it leaves out."


def one_off_name(config: dict[str, Any], command_line: Collection[str], name: str = "default") -> str:
    """The name of a run: the given one, unless the command line chose models or data sets, and no name.

    Then it is the given name, the chosen models, and "on" the chosen data sets. `config` is the merged configuration.
    """
    given = {*command_line}
    named = str(config.get("run", name))
    if "run" in given or given.isdisjoint(CHOOSING):
        return named
    chosen = {key: _words(config[key]) for key in CHOOSING if key in given and config.get(key)}
    text = "-".join(f"on-{words}" if key == "datasets" else words for key, words in chosen.items())
    if not text:
        return named
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text.replace("*", "all")).strip("-.")
    whole = f"{named}-{plain}"
    return whole if len(whole) <= LONGEST else f"{whole[:LONGEST]}-{digest(text)[:8]}"


def _words(value: Any) -> str:
    """The last parts of paths and names, joined."""
    names = value if isinstance(value, list) else str(value).strip("[]").split(",")
    return "-".join(str(name).strip(" '\"").rstrip("/").rpartition("/")[2].removeprefix("lm_eval:") for name in names)
