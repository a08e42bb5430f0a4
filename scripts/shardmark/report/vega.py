"""The script that draws the charts of a report: Vega (https://vega.github.io), from the bundle in vl-convert."""

import functools
from importlib.metadata import version
from pathlib import Path

from shardmark import layout
from shardmark.files import write_whole

END = "})();\n"


@functools.cache
def vega_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script that defines no other names."""
    import vl_convert

    return f"(() => {{\n{vl_convert.javascript_bundle('globalThis.vegaEmbed = vegaEmbed;')}\n{END}"


def kept_vega(results: Path) -> Path:
    """The file in which a results folder keeps the script, since making it takes longer than all charts."""
    return layout.VEGA.file(results, file=f"{version('vl-convert-python')}.js")


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
