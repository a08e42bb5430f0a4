"""The script that draws the charts of a report: Vega (https://vega.github.io), from the bundle in vl-convert."""

import functools
import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from shardmark import layout
from shardmark.files import write_whole
from shardmark.installation import SCRIPTS

SNIPPET = "globalThis.vegaEmbed = vegaEmbed;"
END = "})();\n"


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script that defines no other names.

    The user's cache folder keeps it under its own digest, since making it takes longer than a small report.
    """
    for cached in _cached():
        with suppress(OSError):
            data = cached.read_bytes()
            if cached.stem.endswith(f"-{_sha256(data)}"):
                return data.decode()
    import vl_convert

    script = f"(() => {{\n{vl_convert.javascript_bundle(SNIPPET)}\n{END}"
    with suppress(OSError, RuntimeError):  # without a home, or where it cannot be written, the next report makes it
        data = script.encode()
        write_whole(_cache() / f"{_version()}-{_sha256(data)}.js", data)
    return script


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "shardmark/vega"


def _cached() -> list[Path]:
    """The files in the user's cache folder that may hold the script."""
    with suppress(OSError, RuntimeError):
        return sorted(_cache().glob(f"{_version()}-*.js"))
    return []


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _version() -> str:
    return version("vl-convert-python")


def kept_vega(results: Path) -> Path:
    """The file in which a results folder keeps the script, for all of its reports."""
    return layout.VEGA.file(results, file=f"{_version()}.js")


def begin_vega(results: Path | None = None) -> None:
    """Let a process of low priority make the script, unless it is there; if it fails, the report makes it."""
    if _cached() or (results and kept_vega(results).exists()):
        return
    command = [sys.executable, str(Path(SCRIPTS, "vega.py")), *(["--results", str(results)] if results else [])]
    none = subprocess.DEVNULL
    subprocess.Popen(command, stdin=none, stdout=none, stderr=none, start_new_session=True)


def keep_vega(results: Path) -> Path:
    """The same file, written if it is not there."""
    kept = kept_vega(results)
    if not _is_whole(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, vega_script())
    return kept


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(END), 2)
            return file.read() == END.encode()
    except OSError:
        return False
