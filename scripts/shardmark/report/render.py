"""Pages rendered from the templates, with all inserted text escaped."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .formats import FILTERS
from .text import pretty_json, visible

TEMPLATES = Path(__file__).parent / "templates"
LOADER = "loader.js"
"The script that loads chunks."


@functools.cache
def environment() -> Environment:
    """The template environment: autoescape for every template, an unknown name is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    env.filters.update(FILTERS, pretty_json=pretty_json)
    return env


def _shown(value: Any) -> Any:
    """A value that a template inserts; in texts, characters that would be hidden or turn others around are visible."""
    return visible(value) if type(value) is str else value


def source(names: Sequence[str]) -> Markup:
    """Scripts or style sheets of the templates, concatenated."""
    return Markup("\n".join((TEMPLATES / name).read_text("utf-8").strip() for name in names))


def policy(code: str, style: str, loads: bool) -> str:
    """The content security policy of a page whose only script is `code` ("" for none), and whose only style is `style`.

    Both are allowed by their hashes, so that nothing else could run even if it got into the page. A page that `loads`
    chunks may load scripts from its own origin: under file:// that is any file, but only our own names are loaded.
    """
    scripts = " ".join([*(["'self'"] if loads else []), *([_hash(code)] if code else [])]) or "'none'"
    return (
        f"default-src 'none'; style-src {_hash(style)}; img-src data: 'self'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def write_page(
    env: Environment,
    template: str,
    path: Path,
    context: dict[str, Any],
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> None:
    """Render a template with the given context, scripts and additional styles, and write it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code, style = source(scripts), source(["style.css", *styles])
    csp = policy(code, style, LOADER in scripts)
    write_text(path, env.get_template(template).render(**context, policy=csp, code=code, style=style))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with "\\n" as the line end on every system, so that the same inputs give the same bytes."""
    path.write_text(text, "utf-8", newline="\n")
