"""Open files that are compressed, as the ending of their name says."""

import bz2
import gzip
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}
"The first bytes of compressed files."


def _zstd(path: Path) -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.open(path, "rb")


def zstd_error() -> type[Exception]:
    """The exception that zstd raises, or another that is caught anyway if zstd was not used."""
    for name in ("compression.zstd", "backports.zstd"):
        if name in sys.modules:
            return sys.modules[name].ZstdError
    return EOFError


OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".zst": _zstd, ".bz2": bz2.open, ".xz": lzma.open}


def opened(path: Path) -> IO[bytes]:
    """The file for reading, as it was before it was compressed."""
    opener = OPENERS.get(path.suffix.lower())
    return opener(path) if opener else open(path, "rb")
