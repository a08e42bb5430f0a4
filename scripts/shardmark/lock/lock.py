"""config/benchmark.lock: what every model and data set resolved to when it was first used.

It is meant to be committed: whoever runs the same lock evaluates the same weights and rows, whatever has been pushed
to the Hub since. A branch or tag stays at its commit until `relock` asks anew; a file of this machine is read as it is,
and the lock follows it, unless it is frozen. config/README.md shows what is in it; lock/entries.py makes the records.
"""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, write_if_changed
from shardmark.lock.changes import LATER, Change, Entries, Key
from shardmark.lock.hub import Kind, ask_hub

LOCK = Path("config/benchmark.lock")
"Below the folder that a run is started in."

VERSION = 2
SECTIONS = ("hub", "models", "datasets")
COMMIT = re.compile("[0-9a-f]{40}")
PATIENCE = 60.0
"Seconds to wait for another process that writes the lock."
NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
"How a shared file system without locks refuses one."

RELOCK = "accept what is there: `snakemake relock --profile local`, with this run's --configfile and --config"


class Lock:
    """The entries of the lock. `save` it when done.

    `frozen`: what is not in it is not asked for, and `refusals` names everything that would change. `anew`: the Hub is
    asked again for every branch and tag, once.
    """

    def __init__(self, path: Path, frozen: bool = False, anew: bool = False) -> None:
        self.path = path
        self.frozen, self.anew = frozen, anew
        self.used: set[Key] = set()
        "The keys of what was asked for or noted."
        self._shown = _shown(path)
        self._before = _read(path)
        self._entries = dict(self._before)
        self._learnt: dict[Key, dict[str, Any]] = {}

    def commit(self, kind: Kind, repository: str, revision: str | None, where: str) -> str:
        """The commit a revision (default: the default branch) is pinned to, asking the Hub if it is new.

        Raises UserError if neither the Hub nor its local cache knows it.
        """
        key = ("hub", kind, f"{repository}@{revision or 'main'}")
        known = self._entries.get(key)
        ask_again = self.anew and key not in self.used and not COMMIT.fullmatch(revision or "")
        if known is None or ask_again:
            if self.frozen:
                what = f"is not pinned yet, and the lock is frozen ({where} names it)"
                raise UserError(Problem(self._shown, ".".join(key), what, RELOCK))
            self._entries[key] = known = ask_hub(kind, repository, revision, where, cached=not self.anew)
        self.used.add(key)
        return str(known)

    def get(self, key: Key) -> Any:
        """The value of an entry as the file has it; None if there is none."""
        return self._before.get(key)

    @property
    def known(self) -> set[Key]:
        """The keys of all entries."""
        return set(self._entries)

    def learn(self, key: Key, later: dict[str, Any]) -> None:
        """Parts that are not always known, for the record that will be noted under a key."""
        self._learnt[key] = self._learnt.get(key, {}) | later

    def note(self, key: Key, record: dict[str, Any], later: dict[str, Any] | None = None) -> None:
        """Put a record into the lock.

        `later` are parts that are not always known, as far as they are now: one that the same record had keeps its
        value, so that the lock does not depend on what has been downloaded where.
        """
        old = self.get(key) or {}
        kept = {part: value for part, value in old.items() if part in LATER}
        same = {part: value for part, value in old.items() if part not in LATER} == record
        self.used.add(key)
        self._entries[key] = record | self._learnt.get(key, {}) | (later or {}) | (kept if same else {})

    def drop(self, key: Key) -> None:
        """Take an entry out of the lock."""
        self._entries.pop(key, None)

    def changes(self) -> list[Change]:
        """What is new, moved or dropped since the lock was read, by key."""
        keys = sorted(self._before.keys() | self._entries.keys())
        both = ((key, self._before.get(key), self._entries.get(key)) for key in keys)
        return [Change(key, old, new) for key, old, new in both if old != new]

    def refusals(self) -> list[Problem]:
        """Everything that would change in a frozen lock. What was unknown and is known now may stay unknown."""
        if not self.frozen:
            return []
        moved = (change for change in self.changes() if not change.is_completed)
        return [
            Problem(self._shown, change.path, f"{change.what}, and the lock is frozen", _restore(change) + RELOCK)
            for change in moved
        ]

    def save(self) -> list[Change]:
        """Write what has changed, beside what other processes have written since; the changes.

        Raises UserError if one of them pinned the same name to another commit, or if the file cannot be written.
        """
        changes = self.changes()
        if not changes or self.frozen:
            return []
        with _alone(self.path):
            entries = _read(self.path)
            for change in changes:
                there = entries.get(change.key)
                if change.key[0] == "hub" and there not in (change.old, change.new):
                    what = f"another process has just pinned it to {there}, this one to {change.new}"
                    raise UserError(Problem(self._shown, change.path, what, "run again"))
                if change.new is None:
                    entries.pop(change.key, None)
                else:
                    entries[change.key] = change.new
            write_if_changed(self.path, _text(entries))
        return changes


def _restore(change: Change) -> str:
    """The first half of how to fix a refused change: to undo it, where that is a matter of files."""
    return f"restore {change.new['path']}, or " if change.old and "path" in (change.new or ()) else ""


def _shown(path: Path) -> str:
    """The path in messages: as short as it can be."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process writes the lock meanwhile."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _file_lock(path.with_name(f".{path.name}.writing")):
            yield
    except Timeout as error:
        what = f"another process has been writing it for {PATIENCE:.0f} s"
        raise UserError(
            Problem(_shown(path), "", what, f"wait for it, or end it; it holds {error.lock_file}")
        ) from error
    except OSError as error:
        fix = "fix the permissions of its folder or free the disk; a lock that is complete is not written"
        raise UserError(Problem(_shown(path), "", f"cannot be written: {error.strerror or error}", fix)) from error


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """A lock of the kernel; on a file system that knows none, the existence of a file. Raises Timeout."""
    lock: BaseFileLock = FileLock(path, timeout=PATIENCE)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}-here"), timeout=PATIENCE)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _text(entries: Entries) -> str:
    """The file: one value a line, in the order of names, so that git shows and merges what moved."""
    sections: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    for (section, name, kind), value in sorted(entries.items(), key=lambda entry: entry[0]):
        sections[section].setdefault(name, {})[kind] = value
    return pretty_json({"version": VERSION, **sections})


def _read(path: Path) -> Entries:
    """The entries of a lock file; none if it is not there. Raises UserError if it is damaged."""
    try:
        return _parse(json.loads(path.read_bytes(), object_pairs_hook=_unique))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        fix = "restore it from git, or delete it to pin anew"
        raise UserError(Problem(_shown(path), "", f"not a valid lock: {error}", fix)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which nothing stands twice, as it may after a merge."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _parse(content: dict[str, Any]) -> Entries:
    if "version" not in content:  # Shardmark 0.1 wrote the pins alone
        content = {"version": VERSION, "hub": content}
    if content["version"] != VERSION:
        raise ValueError(f"it is of version {content['version']!r}, this Shardmark reads {VERSION}")
    if unknown := content.keys() - {"version", *SECTIONS}:
        raise ValueError(f"unknown section {min(unknown)!r}")
    entries = {
        (section, name, kind): value
        for section in SECTIONS
        for name, values in content.get(section, {}).items()
        for kind, value in values.items()
    }
    for (section, name, kind), value in entries.items():
        if section == "hub" and name not in ("model", "dataset"):
            raise ValueError(f"hub: unknown kind {name!r}")
        if not isinstance(value, str if section == "hub" else dict):
            raise TypeError(f"{section}.{name}.{kind}: {value!r} is not what belongs there")
    return entries
