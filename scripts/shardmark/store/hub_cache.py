"""The Hub's cache on this machine in huggingface_hub's layout, whichever program filled it.

huggingface_hub is not imported: a plan looks here each time.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rich.filesize import decimal

from shardmark.files import read_object
from shardmark.records.model import HubFile

SHA256_DIGITS, SHA1_DIGITS = 64, 40
SPARE = 1 << 28
"Bytes of disk space that downloads leave free."


def hub_home() -> Path:
    """The value of HF_HOME, or the default."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _folder(os.environ.get("HF_HOME") or os.path.join(cache, "huggingface"))


def hub_cache() -> Path:
    """The folder of repositories."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _folder(given) if given else hub_home() / "hub"


def full_disk(needed: int, names: str) -> tuple[str, str] | None:
    """The problem and its fix if `needed` bytes, called `names`, do not fit on the disk of the cache."""
    disk = hub_cache()
    while not disk.exists() and disk != disk.parent:
        disk = disk.parent
    free = shutil.disk_usage(disk).free
    if not needed or needed + SPARE <= free:
        return None
    what = f"{names}: {decimal(needed)} must be downloaded to {hub_cache()}, where {decimal(free)} are free"
    return what, "free some space, or set HF_HOME to a folder on a larger disk"


def _folder(given: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(given)))


def repository_folder(kind: str, repository: str) -> Path:
    """The folder of a repository; `kind` is model or dataset."""
    return hub_cache() / "--".join([f"{kind}s", *repository.split("/")])


def snapshot(kind: str, repository: str, commit: str) -> Path:
    """The folder of a commit's files, which may hold all, some or none of them."""
    return repository_folder(kind, repository) / "snapshots" / commit


def listed(kind: str, repository: str, commit: str) -> dict[str, HubFile]:
    """The files of a commit as the Hub listed them to a program that downloaded from it; none if it kept no list."""
    tree = read_object(repository_folder(kind, repository) / "trees" / f"{commit}.json")
    files = tree.get("files")
    try:
        return {
            name: hub_file(told["size"], told.get("lfs_sha256"), told["blob_id"])
            for name, told in (files if isinstance(files, Mapping) else {}).items()
        }
    except (KeyError, TypeError, AttributeError):  # another version's list
        return {}


def hub_file(size: int, sha256: str | None, blob: str) -> HubFile:
    """A file with the SHA-256 that the Hub reports if it is big, else only git's name for its content."""
    return HubFile(size=size, sha256=sha256) if sha256 else HubFile(size=size, git=blob)


def named_by_content(folder: Path) -> dict[str, HubFile]:
    """The files of a snapshot with what their names in the cache tell: the Hub's hash, never the size."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink()):
        blob = os.path.basename(os.readlink(path))
        if all(digit in "0123456789abcdef" for digit in blob) and len(blob) in (SHA256_DIGITS, SHA1_DIGITS):
            name = path.relative_to(folder).as_posix()
            found[name] = HubFile(sha256=blob) if len(blob) == SHA256_DIGITS else HubFile(git=blob)
    return found
