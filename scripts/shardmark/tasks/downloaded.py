"""Data sets that another program, such as `hf download`, has downloaded into the Hub's cache."""

import logging
import re
from pathlib import Path

from shardmark.store.hub_cache import listed, snapshot

log = logging.getLogger(__name__)

NOT_ROWS = re.compile(r"(^|/)(\.[^/]*|LICENSE[^/]*|[^/]*\.(png|jpe?g|gif|svg|pdf|py|ipynb))$")
"Files without rows. README.md is not one of them: it may say which files belong to which split."
PARTS = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<rest>\..*)?$")
SHOWN = 5


def downloaded(repository: str, commit: str, is_known: bool) -> Path | None:
    """The folder of a data set's files at a commit; None if there is none.

    It must hold all files, or a split would be read without some of its rows; unless the rows' hash is known
    (`is_known`), and so compared. Raises FileNotFoundError naming the missing files.
    """
    folder = snapshot("dataset", repository, commit)
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if is_known:
        return folder
    names = listed("dataset", repository, commit)
    missing = [name for name in names if not NOT_ROWS.search(name) and not (folder / name).is_file()]
    missing = missing or _gaps(folder)
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
        fetch = f"hf download {repository} --repo-type dataset --revision {commit}"
        raise FileNotFoundError(f"not all files of commit {commit} are in the cache: {shown}; `{fetch}` fetches them")
    if not names:
        log.warning("%s@%s: read from the Hub's cache, which has no list of its files to check", repository, commit)
    return folder


def _gaps(folder: Path) -> list[str]:
    """Missing parts of files whose names give the number of parts, as in test-00000-of-00002.parquet."""
    missing: list[str] = []
    found = [match for path in folder.rglob("*") if (match := PARTS.match(path.relative_to(folder).as_posix()))]
    for stem, count, rest in sorted({(part["stem"], part["count"], part["rest"] or "") for part in found}):
        names = [f"{stem}-{number:05}-of-{count}{rest}" for number in range(int(count))]
        missing += [name for name in names if not (folder / name).is_file()]
    return missing
