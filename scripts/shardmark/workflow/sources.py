"""How Snakemake reads Snakefiles: those on this machine without smart_open, whose import takes a tenth of a start."""

from collections.abc import Callable
from types import ModuleType
from typing import IO, Any, NamedTuple

from shardmark.workflow import patches


class _Uri(NamedTuple):
    """What smart_open makes of a path."""

    scheme: str
    uri_path: str


def reads_plainly(sourcecache: ModuleType) -> None:
    """Have Snakemake's module `sourcecache` read local files as Python does; all others as before."""

    def parsed(parse: Callable[..., Any]) -> Callable[..., Any]:
        return lambda path: _Uri("file", str(path)) if str(path).startswith("/") else parse(path)

    def opened(open_any: Callable[..., IO[Any]]) -> Callable[..., IO[Any]]:
        def plain(self: Any, source_file: Any, mode: str, encoding: str | None = None) -> IO[Any]:
            if isinstance(source_file, sourcecache.LocalSourceFile) and mode in ("r", "rb"):
                try:
                    path = source_file.get_path_or_uri(secret_free=False)
                    return open(path, mode, encoding=None if mode == "rb" else encoding)
                except OSError:
                    pass  # Snakemake says what is wrong
            return open_any(self, source_file, mode, encoding=encoding)

        return plain

    patches.replace(sourcecache, patches.PARSE, parsed)
    patches.replace(sourcecache.SourceCache, patches.OPEN, opened)
