"""config/benchmark.lock: what every model and data set resolved to when it was first used.

It is meant to be committed: everyone who runs with the same lock evaluates the same weights and rows, whatever has been
pushed to the Hub since. A branch or tag stays at its commit until `relock` asks again; a file on this machine is read
as it is, and the lock follows it, unless it is frozen. config/README.md shows its contents; lock/entries.py makes the
records.
"""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shardmark.errors import Problem, UserError
from shardmark.files import pretty_json, write_if_changed
from shardmark.lock.changes import LATER, Change, Entries, Key, is_completed
from shardmark.lock.hub import Kind, ask_hub

LOCK = Path("config/benchmark.lock")
"Relative to the folder that a run is started in."

VERSION = 2
SECTIONS = ("hub", "models", "datasets")
CONTENTS = "contents"
"The section with the contents of each commit. Older locks lack it, and so do locks that pin nothing on the Hub."
COMMIT = re.compile("[0-9a-f]{40}")
PATIENCE = 60.0
"Seconds to wait while another process writes the lock."
NO_LOCKS = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
"The errors of a shared file system without locks."

RELOCK = "accept the changes: `snakemake relock --profile local`, with this run's --configfile and --config"


class Lock:
    """The entries of the lock. `save` it when done, or `keep` it for later.

    `frozen`: unknown entries are not looked up, and `refusals` names everything that would change. `anew`: the Hub is
    asked again for every branch and tag, once. `kept` is the file in which a dry run keeps the Hub's answers.
    """

    def __init__(self, path: Path, frozen: bool = False, anew: bool = False, kept: Path | None = None) -> None:
        self.path, self._kept_in = path, kept
        self.frozen, self.anew = frozen, anew
        self._kept: Entries = _read_kept(kept) if kept and not frozen and not anew else {}
        self.used: set[Key] = set()
        "The keys that were asked for or noted."
        self._shown = _shown(path)
        self._before = _read(path)
        self._entries = dict(self._before)
        self._learnt: dict[Key, dict[str, Any]] = {}

    def commit(self, kind: Kind, repository: str, revision: str | None, where: str) -> str:
        """The commit a revision (default: the default branch) is pinned to, asking the Hub if it is new.

        Raises UserError if neither the Hub nor its local cache knows it.
        """
        key = ("hub", kind, f"{repository}@{revision or 'main'}")
        known = self._known(key)
        ask_again = self.anew and key not in self.used and not COMMIT.fullmatch(revision or "")
        if known is None or ask_again:
            if self.frozen:
                what = f"is not pinned yet, but the lock is frozen ({where} names it)"
                raise UserError(Problem(self._shown, ".".join(key), what, RELOCK))
            self._entries[key] = commit = ask_hub(kind, repository, revision, where, cached=not self.anew)
            moved, known = known not in (None, commit), commit
            if moved:
                self.forget_unpinned()
        self.used.add(key)
        return str(known)

    def _known(self, key: Key) -> Any:
        """The value of an entry that only the Hub can tell, possibly kept by a dry run."""
        if key not in self._entries and key in self._kept:
            self._entries[key] = self._kept[key]
        return self._entries.get(key)

    def contents(self, kind: Kind, repository: str, commit: str) -> dict[str, Any]:
        """The known contents of a commit, by name: a model's files, or a data set's rows."""
        return dict(self._known(_contents_key(kind, repository, commit)) or {})

    def all_contents(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """Model or dataset, repository, commit, and its known contents, for each commit."""
        for (section, kind, name), known in self._entries.items():
            if section == CONTENTS:
                repository, _, commit = name.rpartition("@")
                yield kind, repository, commit, dict(known)

    def learn_contents(self, kind: Kind, repository: str, commit: str, found: dict[str, Any]) -> None:
        """Add to the known contents of a commit. They never move, and a frozen lock learns nothing."""
        key = _contents_key(kind, repository, commit)
        if not self.frozen:
            self._entries[key] = dict(sorted((found | (self._known(key) or {})).items()))

    def rows_sha256(self, repository: str, commit: str, part: str) -> str | None:
        """The SHA-256 of the rows of a part of a data set as they were first read; None if unknown."""
        known = self.contents("dataset", repository, commit).get(part)
        return known.get("sha256") if isinstance(known, dict) else None

    def rows_size(self, repository: str, commit: str, part: str) -> tuple[int, int] | None:
        """The number and the bytes of the files that the Hub has for a part of a data set; None if unknown."""
        match self.contents("dataset", repository, commit).get(part):
            case {"files": int(files), "bytes": int(size)}:
                return files, size
        return None

    def learn_rows(self, repository: str, commit: str, part: str, **facts: str | int) -> None:
        """Add facts about rows: `sha256`, `files` and `bytes`; what is known stays."""
        known = self.contents("dataset", repository, commit)
        before = known.get(part)
        whole = {part: facts | (before if isinstance(before, dict) else {})}
        if not self.frozen:
            self._entries[_contents_key("dataset", repository, commit)] = dict(sorted((known | whole).items()))

    def forget_unpinned(self) -> None:
        """Drop the contents of commits that nothing is pinned to any more."""
        pinned = {
            _contents_key(kind, name.rpartition("@")[0], commit)  # type: ignore[arg-type]
            for (section, kind, name), commit in self._entries.items()
            if section == "hub"
        }
        for key in [key for key in self._entries if key[0] == CONTENTS and key not in pinned]:
            del self._entries[key]

    def get(self, key: Key) -> Any:
        """The value of an entry in the file; None if there is none."""
        return self._before.get(key)

    @property
    def known(self) -> set[Key]:
        """The keys of all entries except the contents of commits."""
        return {key for key in self._entries if key[0] != CONTENTS}

    def learn(self, key: Key, later: dict[str, Any]) -> None:
        """Remember parts that are not always known for the record that will be noted under a key."""
        self._learnt[key] = self._learnt.get(key, {}) | later

    def note(self, key: Key, record: dict[str, Any], later: dict[str, Any] | None = None) -> None:
        """Put a record into the lock.

        `later` has the parts that are not always known, as far as they are known now: one that the same record already
        had keeps its value, so that the lock does not depend on what has been downloaded where.
        """
        old = self.get(key) or {}
        kept = {part: value for part, value in old.items() if part in LATER}
        same = {part: value for part, value in old.items() if part not in LATER} == record
        self.used.add(key)
        self._entries[key] = record | self._learnt.get(key, {}) | (later or {}) | (kept if same else {})

    def adopt(self, path: Path) -> list[str]:
        """Take over entries of another lock that this one lacks; returns the places of entries with different values.

        Raises UserError if the other lock cannot be read.
        """
        differing = []
        for key, value in _read(path).items():
            own = self._entries.get(key)
            if key[0] == CONTENTS and own is not None:
                if any(_differs(own.get(part), known) for part, known in value.items()):
                    differing.append(".".join(key))
                both = {part: _merged(own.get(part), value.get(part)) for part in sorted(value.keys() | own.keys())}
                self._entries[key] = both
            elif own is None or is_completed(own, value):
                self._entries[key] = value
            elif own != value and not is_completed(value, own):
                differing.append(".".join(key))
        return differing

    def drop(self, key: Key) -> None:
        """Remove an entry from the lock."""
        self._entries.pop(key, None)

    def changes(self) -> list[Change]:
        """The entries that are new, moved or dropped since the lock was read, by key, without contents of commits."""
        return [change for change in self._all_changes() if change.key[0] != CONTENTS]

    def _all_changes(self) -> list[Change]:
        keys = sorted(self._before.keys() | self._entries.keys())
        both = ((key, self._before.get(key), self._entries.get(key)) for key in keys)
        return [Change(key, old, new) for key, old, new in both if old != new]

    def refusals(self) -> list[Problem]:
        """Everything that would change in a frozen lock. Learning what was unknown is not refused."""
        if not self.frozen:
            return []
        moved = (change for change in self.changes() if not change.is_completed)
        return [
            Problem(self._shown, change.path, f"{change.what}, but the lock is frozen", _restore(change) + RELOCK)
            for change in moved
        ]

    def save(self) -> list[Change]:
        """Write the changes, together with those that other processes have written since; returns the changes.

        Raises UserError if one of them pinned the same name to another commit, or if the file cannot be written.
        """
        changes = self._all_changes()
        if not changes or self.frozen:
            return []
        with _alone(self.path):
            entries = _read(self.path)
            for change in changes:
                there = entries.get(change.key)
                if change.key[0] == "hub" and there not in (change.old, change.new):
                    what = f"another process has just pinned it to {there}, but this one to {change.new}"
                    raise UserError(Problem(self._shown, change.path, what, "run again"))
                if change.new is None:
                    entries.pop(change.key, None)
                else:
                    beside = there if change.key[0] == CONTENTS and there else {}
                    entries[change.key] = beside | change.new if beside else change.new
            write_if_changed(self.path, _text(entries))
        self._drop_kept(entries)
        return self.changes()

    def keep(self) -> list[Change]:
        """The changes that `save` would write; the Hub's answers are kept, so that a run pins the same."""
        told = {change.key: change.new for change in self._all_changes() if change.key[0] in ("hub", CONTENTS)}
        told = {key: value for key, value in told.items() if value is not None}
        if self._kept_in and told and not self.frozen:
            write_if_changed(self._kept_in, _text(self._kept | told))
        return [] if self.frozen else self.changes()

    def _drop_kept(self, entries: Entries) -> None:
        """Forget the kept answers that the lock has by now."""
        left = {key: value for key, value in self._kept.items() if key not in entries}
        if self._kept_in and left != self._kept:
            with suppress(OSError):
                if left:
                    write_if_changed(self._kept_in, _text(left))
                else:
                    self._kept_in.unlink()
            self._kept = left


def _contents_key(kind: Kind, repository: str, commit: str) -> Key:
    return (CONTENTS, kind, f"{repository}@{commit}")


def _restore(change: Change) -> str:
    """The first half of the fix for a refused change: undoing it, if that is a matter of files."""
    return f"restore {change.new['path']}, or " if change.old and "path" in (change.new or ()) else ""


def _shown(path: Path) -> str:
    """The shortest form of the path for messages."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing the lock meanwhile."""
    from filelock import Timeout  # here, because most runs write no lock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _file_lock(path.with_name(f".{path.name}.writing")):
            yield
    except Timeout as error:
        what = f"another process has been writing it for {PATIENCE:.0f} s"
        raise UserError(
            Problem(_shown(path), "", what, f"wait for it or end it: it holds {error.lock_file}")
        ) from error
    except OSError as error:
        fix = "fix the permissions of its folder or free some disk space; a complete lock need not be written"
        raise UserError(Problem(_shown(path), "", f"cannot be written: {error.strerror or error}", fix)) from error


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """A lock of the kernel or, on a file system without locks, a lock file. Raises Timeout."""
    from filelock import BaseFileLock, FileLock, SoftFileLock

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


def _leads_out(file: str) -> bool:
    """Whether a file's name points outside its folder."""
    return file.startswith("/") or ".." in file.split("/") or "\0" in file


def _text(entries: Entries) -> str:
    """The text of the file: one value per line, in the order of names, so that git shows and merges changes."""
    sections: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    for (section, name, kind), value in sorted(entries.items(), key=lambda entry: entry[0]):
        sections.setdefault(section, {}).setdefault(name, {})[kind] = value
    return pretty_json({"version": VERSION, **sections})


def _differs(own: Any, other: Any) -> bool:
    """Whether two locks contradict each other about a part of a commit; one may know less than the other."""
    if isinstance(own, dict) and isinstance(other, dict):
        return any(own[name] != other[name] for name in own.keys() & other.keys())
    return own is not None and own != other


def _merged(own: Any, other: Any) -> Any:
    """What two locks know about a part of a commit; where they differ, `own`."""
    if isinstance(own, dict) and isinstance(other, dict):
        return dict(sorted((other | own).items()))
    return other if own is None else own


def _read(path: Path) -> Entries:
    """The entries of a lock file; none if it is not there. Raises UserError if it is damaged."""
    try:
        return _parse(json.loads(path.read_bytes(), object_pairs_hook=_unique))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OSError) as error:
        fix = "restore it from git, or delete it to pin everything again"
        raise UserError(Problem(_shown(path), "", f"not a valid lock: {error}", fix)) from error


def _read_kept(path: Path) -> Entries:
    """The answers kept by a dry run; none if the file is damaged: the Hub is asked again."""
    try:
        return _read(path)
    except UserError:
        return {}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without duplicate keys, which a merge may leave. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _parse(content: dict[str, Any]) -> Entries:
    if "version" not in content:  # Shardmark 0.1 wrote only the pins
        content = {"version": VERSION, "hub": content}
    if content["version"] != VERSION:
        raise ValueError(f"its version is {content['version']!r}, but this Shardmark reads version {VERSION}")
    if unknown := content.keys() - {"version", *SECTIONS, CONTENTS}:
        raise ValueError(f"unknown section {min(unknown)!r}")
    entries = {
        (section, name, kind): value
        for section in (*SECTIONS, CONTENTS)
        for name, values in content.get(section, {}).items()
        for kind, value in values.items()
    }
    for (section, name, kind), value in entries.items():
        if section in ("hub", CONTENTS) and name not in ("model", "dataset"):
            raise ValueError(f"{section}: unknown kind {name!r}")
        if not isinstance(value, str if section == "hub" else dict):
            raise TypeError(f"{section}.{name}.{kind}: {value!r} is not a valid value")
        if section == CONTENTS and name == "model" and (outside := [file for file in value if _leads_out(file)]):
            raise ValueError(f"{section}.{name}.{kind}: {outside[0]!r} points outside its folder")
        if isinstance(value, dict) and section == CONTENTS and not all(isinstance(p, dict) for p in value.values()):
            raise TypeError(f"{section}.{name}.{kind}: holds something other than sizes and hashes")
    return entries
