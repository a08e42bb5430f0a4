"""Remove from a published report what is private: paths on a machine, user names, and keys."""

import getpass
import os
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from msgspec.structs import replace

from shardmark.printable import redacted
from shardmark.records.base import convert, to_json
from shardmark.records.score import Provenance, Scores

from .text import clean

HUB_COPY = re.compile(
    r"(?:[^\s\"'=,;:|]*/)?(?:model|dataset|space)s--(?P<owner>[\w.-]+?)--(?P<name>[\w.-]+?)"
    r"(?:/(?:snapshots|refs|blobs)/[\w.-]+)?(?=[/\s\"'=,;:|)]|$)"
)
"A repository in the Hub's cache, whose id is the better name."
HOMES = re.compile(
    r"(?i)(?:(?<![\w.~-])|(?<=file:/))"
    r"(?:/(?:(?:mnt|nfs|export|data|scratch|work)/)?(?:home|users)/[^/\s\"':;,]+|/root(?![\w.-])"
    r"|[a-z]:[\\/]+users[\\/]+[^\\/\s\"':;,]+)"
)
"Folders that are named after people."
KEYS = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\b(?:ghp|gho|ghs|ghu|github_pat|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[A-Za-z0-9_-]{30,}"
)
SECRET = (
    r"(?:api[_-]?key|(?:access|secret|private)[_-]?key|secret|passw(?:or)?d|"
    r"(?:auth|access|hf|hub|api|bearer)[_-]?token)"
)
NAMED_KEY = re.compile(
    rf"(?i)(?P<name>\b(?:[a-z0-9]+[_-])*{SECRET}[\"']?\s*[=:]\s*[\"']?|--(?:[a-z0-9]+-)*{SECRET}\s+)(?P<value>[^\s\"',;&]+)"
)
SECRET_NAME = re.compile(rf"(?i)(?:{SECRET}|authorization)$")
EVERYBODY = {
    *("root", "user", "users", "ubuntu", "debian", "admin", "runner"),
    *("data", "home", "work", "test", "model", "models"),
}
"User names that reveal nothing, and that paths contain for other reasons."


def public_scores(scores: Scores) -> Scores:
    """Scores without private parts in the description of how they were made."""
    model = replace(scores.model, description=public(scores.model.description), source=public(scores.model.source))
    dataset = replace(
        scores.dataset, description=public(scores.dataset.description), source=public(scores.dataset.source)
    )
    provenance = convert(public(to_json(scores.provenance)), Provenance)
    return replace(scores, model=model, dataset=dataset, provenance=provenance)


def public(value: Any) -> Any:
    """A JSON value, cleaned, without home folders, user names, keys and passwords in any of its texts.

    It is for descriptions of a run. Texts of data sets and models are shown as they are.
    """
    if isinstance(value, str):
        return _public_text(value)
    if isinstance(value, Mapping):
        return {public(str(key)): _named(str(key), part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [public(part) for part in value]
    return value


def _named(key: str, value: Any) -> Any:
    return "***" if isinstance(value, str) and value and SECRET_NAME.search(key) else public(value)


@lru_cache(maxsize=1 << 14)
def _public_text(text: str) -> str:
    text = HUB_COPY.sub(lambda found: f"{found['owner']}/{found['name']}", clean(text))
    text = KEYS.sub("***", redacted(text))
    text = NAMED_KEY.sub(lambda found: found["name"] + "***", text)
    for home in _homes():
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    text = HOMES.sub("~", text)
    for user in _users():  # a repository of the Hub may be called after its owner
        text = re.sub(rf"(?:(?<=/){re.escape(user)}(?![\w.-])|(?<![\w./-]){re.escape(user)}(?![\w/-]))", "user", text)
    return text


@cache
def _homes() -> list[str]:
    found = {os.environ.get("HOME", ""), os.path.expanduser("~")}
    return sorted((home.rstrip("/") for home in found if home.count("/") > 0 and home != "/"), key=len, reverse=True)


@cache
def _users() -> list[str]:
    """This machine's user, unless many machines have a user of that name."""
    try:
        found = {getpass.getuser(), os.environ.get("SUDO_USER", ""), os.environ.get("LOGNAME", "")}
    except (OSError, KeyError):
        found = set()
    return sorted(name for name in found if len(name) > 2 and name not in EVERYBODY)
