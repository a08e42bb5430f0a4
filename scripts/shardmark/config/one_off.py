"""The name of a run whose models or data sets the command line gave: its report must not replace another run's."""

import re
from collections.abc import Collection
from typing import Any

from shardmark.config.run import ONE_OFF, names_in
from shardmark.files import digest

CHOOSING = ("hf_path", "models", "datasets")
LONGEST = 60
"The most characters of such a name before its digest."


def one_off_name(config: dict[str, Any], command_line: Collection[str]) -> str:
    """The name of a run: the configured one, unless the command line chose models or data sets, and no name.

    Then it is that name, the chosen models, "on" the chosen data sets, and a digest of these and of what else the
    command line says about `hf_path`: `org/tiny` and `other/tiny`, or `[a, b]` and `a-b`, are different runs. `config`
    is the merged configuration.
    """
    given = {*command_line}
    named = str(config.get("run", "default"))
    chosen = {key: _names(config[key]) for key in CHOOSING if key in given and config.get(key) not in (None, "")}
    if "run" in given or not chosen:
        return named
    text = "-".join(f"on-{_words(names)}" if key == "datasets" else _words(names) for key, names in chosen.items())
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", text.replace("*", "all")).strip("-.")
    about = {key: str(config[key]) for key in ONE_OFF if key in given and config.get(key)}
    return f"{named}-{plain}"[:LONGEST].rstrip("-.") + f"-{digest([named, chosen, about])[:6]}"


def _names(value: object) -> list[str]:
    found = names_in(value)
    return [str(name).rstrip("/") for name in (found if isinstance(found, list) else [found])]


def _words(names: list[str]) -> str:
    """The last parts of paths and names, joined."""
    return "-".join(name.rpartition("/")[2].removeprefix("lm_eval:") for name in names)
