"""A store of predictions that several results folders share: a folder, an S3 bucket, or anything that fsspec reaches.

Nothing in it is ever replaced or removed. Files appear at once and whole: in a folder through a hard link, on S3
through a condition (If-None-Match). Without either, a store can only be read. All operations of a store run in threads
that may hang with it: callers stop waiting after a time.
"""

import errno
import json
import os
import stat
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, TypeVar

from shardmark.errors import Problem, UserError
from shardmark.files import json_line
from shardmark.printable import one_line
from shardmark.store.shared_entries import FORMAT, Entry, entry_at

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PATIENCE = 60.0
"Seconds to wait for an answer of a store."
AT_ONCE = 8
"How many entries are read or written at once."
HEAD = 65536
"In bytes; the first line of most entries is shorter."
MARKER = "shardmark-store.json"
"The file that makes a folder or a bucket a store."
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
"The errors of a file system without hard links."
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 5, "read_timeout": 20, "retries": {"max_attempts": 2}}}
}
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
"The package that fsspec needs for a scheme."
T = TypeVar("T")
S = TypeVar("S")


class StoreError(UserError):
    """A store cannot be used."""


class SharedStore:
    """The store at an address. Each call raises StoreError if it cannot be used, or is silent for PATIENCE."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.scheme = address.partition("://")[0] if "://" in address else "file"
        self._fs, self._root = self._opened()

    def _opened(self) -> tuple["AbstractFileSystem", str]:
        import fsspec

        address = self.address if "://" in self.address else str(Path(self.address).expanduser().absolute())
        try:
            return fsspec.url_to_fs(address, skip_instance_cache=True, **OPTIONS.get(self.scheme, {}))
        except ImportError as error:
            fix = f"pip install {PACKAGES.get(self.scheme, f'what fsspec needs for {self.scheme}://')}"
            raise StoreError(Problem("store", "", f"{self.address}: {one_line(error)}", fix)) from error
        except ValueError as error:
            raise StoreError(
                Problem("store", "", f"{self.address}: {one_line(error)}", "correct the address")
            ) from error

    def check(self) -> None:
        """Raise StoreError if there is no store that this version can read."""
        try:
            found = json.loads(self._waited(self._fs.cat_file, self._place(MARKER)))
            version = found["shardmark_store"]
        except FileNotFoundError:
            fix = "correct the address, mount the folder, or create a store there: snakemake push --profile local"
            raise self._error("contains no store yet", fix) from None
        except (ValueError, KeyError, TypeError):
            raise self._error(f"its {MARKER} cannot be read", "give the address of a store") from None
        if version > FORMAT:
            raise self._error("it was made by a newer Shardmark", "update this one")

    def entries(self, model: str) -> list[Entry]:
        """All entries of a model, by its digest, sorted by their paths."""
        self._fs.invalidate_cache()
        try:
            found = self._waited(self._fs.find, self._place(f"predictions/{model}"), detail=True)
        except FileNotFoundError:
            return []
        paths = ((path.removeprefix(self._root).lstrip("/"), facts) for path, facts in found.items())
        return sorted(entry for path, facts in paths if (entry := entry_at(path, int(facts.get("size") or 0))))

    def head(self, entry: Entry) -> bytes:
        """The first line of an entry."""
        start = self._waited(self._fs.cat_file, self._place(entry.path), start=0, end=min(HEAD, entry.size))
        if b"\n" not in start and entry.size > HEAD:
            start = self.content(entry)
        return bytes(start.partition(b"\n")[0] + b"\n")

    def content(self, entry: Entry) -> bytes:
        """The whole content of an entry."""
        return bytes(self._waited(self._fs.cat_file, self._place(entry.path)))

    def open_to_write(self) -> None:
        """Make an empty place a store. Raises StoreError if the place does not protect existing files."""
        content = json_line({"shardmark_store": FORMAT}).encode()
        if self.scheme not in ("file", "s3"):
            why = f"{self.scheme}:// cannot write without replacing, so this store can only be read here"
            raise self._error(why, "push to a folder or an s3:// bucket, and copy it from there")
        self.put(MARKER, content)
        if self.scheme == "s3" and self.put(MARKER, content):
            why = "it replaces objects although asked not to (If-None-Match), so this store can only be read"
            raise self._error(why, "use a server that supports conditional writes, such as AWS or MinIO")
        self.check()

    def put(self, path: str, content: bytes) -> bool:
        """Write a file that does not exist yet; returns whether it did not."""
        try:
            if self.scheme == "file":
                self._waited(_link_new, Path(self._root), path, content)
            else:
                self._waited(self._fs.pipe_file, self._place(path), content, mode="create")
        except FileExistsError:
            return False
        return True

    def _place(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}"

    def _waited(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
        """The result of a call; FileNotFoundError and FileExistsError pass through."""
        try:
            return _later(lambda: function(*arguments, **keywords)).result(PATIENCE)
        except (FileNotFoundError, FileExistsError):
            raise
        except Overdue:
            raise self._error(f"it has not answered for {PATIENCE:.0f} s", "check it, then run again") from None
        except Exception as error:  # each of fsspec's many file systems has its own errors
            if isinstance(error, OSError) and error.errno in NO_LINKS:
                why = "its file system has no hard links, so this store can only be read"
                raise self._error(why, "push to another file system, or to s3://") from error
            fix = "check it, your permissions and its free space, then run again"
            raise self._error(f"{type(error).__name__}: {one_line(error)}", fix) from error

    def _error(self, why: str, fix: str) -> StoreError:
        return StoreError(Problem("store", self.address, why, fix))


def _link_new(root: Path, name: str, content: bytes) -> None:
    """Create a file with all of its content at once. Raises FileExistsError.

    It and its new folders are open to those to whom the store's folder is, whatever the umask of this user.
    """
    path = root / name
    root.mkdir(parents=True, exist_ok=True)
    permissions = stat.S_IMODE(root.stat().st_mode)
    for folder in reversed([parent for parent in path.parents if root in parent.parents]):
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(permissions)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & permissions)
        os.link(temporary, path)
    finally:
        os.unlink(temporary)


def _later(call: Callable[[], T]) -> "Future[T]":
    """The future result of a call in a thread that ends with the process even if it hangs."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def several(function: Callable[[S], T], items: Iterable[S]) -> Iterator[tuple[S, "Future[T]"]]:
    """Each item with the future result of a function, AT_ONCE of them at a time, in order."""
    running: deque[tuple[S, Future[T]]] = deque()
    for item in items:
        running.append((item, _later(lambda item=item: function(item))))  # type: ignore[misc]
        if len(running) >= AT_ONCE:
            yield running.popleft()
    yield from running
