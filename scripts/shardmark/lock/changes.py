"""Changes of the lock, one line per entry.

An entry of the lock has a key of three parts and a value: `("hub", "model", "org/name@main")` has a commit,
`("datasets", "siqa_gen", "hub")` a record of what the data set of that name resolved to, by the kind of its source.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, str]
Entries = dict[Key, Any]

NOUNS = {"models": "model", "datasets": "data set"}
PINNED = {"model": "model on the Hub", "dataset": "data set on the Hub"}
DIGITS = 12
"Digits of a digest shown in messages."

LATER = {"chat_template", "parameters"}
"Parts of a record that may be unknown at first. Learning them does not count as a change."


@dataclass(frozen=True)
class Change:
    """An entry of the lock before and after; None where it is absent."""

    key: Key
    old: Any
    new: Any

    @property
    def is_new(self) -> bool:
        """Whether the entry was unknown before."""
        return self.old is None

    @property
    def is_completed(self) -> bool:
        """Whether the change only adds what was unknown before."""
        return is_completed(self.old, self.new)

    @property
    def path(self) -> str:
        """The place of the entry in the file."""
        return ".".join(self.key)

    @property
    def what(self) -> str:
        """The change from old to new, without the entry's name."""
        if self.old is None or self.new is None:
            told = (f"{label} {_short(leaf)}".lstrip() for label, leaf in _leaves("", self.new or self.old))
            return ("new: " if self.old is None else "dropped: ") + ", ".join(told)
        return ", ".join(_moves(self.old, self.new))

    def __str__(self) -> str:
        section, name, kind = self.key
        return f"{PINNED[name]} {kind}: {self.what}" if section == "hub" else f"{NOUNS[section]} {name}: {self.what}"


def lock_lines(changes: list[Change], dry: bool = False) -> Iterator[str]:
    """A plan's report of its changes: one line for each entry that moved, one for all that are new.

    A dry run announces them as still to come.
    """
    yield from (f"lock: {change}" for change in changes if not (change.is_new or change.is_completed))
    counts = {"new": sum(c.is_new for c in changes), "completed": sum(c.is_completed for c in changes)}
    if told := [f"{count} {what}" for what, count in counts.items() if count]:
        when = "once this has run" if dry else "which should be committed"
        yield f"lock: {' and '.join(told)} in config/benchmark.lock, {when}"


def is_completed(old: object, new: object) -> bool:
    """Whether a record is an older one plus parts that were unknown then."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    return set(new) - set(old) <= LATER and all(part in new and new[part] == value for part, value in old.items())


def _moves(old: object, new: object) -> Iterator[str]:
    before, after = dict(_leaves("", old)), dict(_leaves("", new))
    for label in dict.fromkeys([*before, *after]):
        was, now = before.get(label, "absent"), after.get(label, "absent")
        if was == now:
            continue
        if label == "rows" and "absent" not in (was, now):
            yield f"{was} -> {now} rows"
        else:
            yield f"{label} {_short(was)} -> {_short(now)}".lstrip()


def _leaves(label: str, value: object) -> Iterator[tuple[str, Any]]:
    """The single values in a record. Labels leave out `files` and the names of pins."""
    if not isinstance(value, dict):
        yield label, value
        return
    for part, inner in value.items():
        yield from _leaves(f"{label} {part}".strip() if part != "files" else label, inner)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:DIGITS] if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", text) else text
