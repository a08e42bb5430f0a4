"""Pages made of the templates, every inserted text escaped."""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .formats import FILTERS
from .text import pretty_json

TEMPLATES = Path(__file__).parent / "templates"


def environment() -> Environment:
    """The template environment: autoescape for every template, an unknown name is an error."""
    env = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(FILTERS, pretty_json=pretty_json)
    return env


def script() -> Markup:
    """The script that sorts tables."""
    return Markup((TEMPLATES / "sort.js").read_text("utf-8").strip())


def policy(code: str) -> str:
    """The content security policy of a page whose only script is `code` ("" for none).

    The script is allowed by its hash, so that nothing else could run even if it got into the page.
    """
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if code else "'none'"
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; script-src {scripts}; "
        "base-uri 'none'; form-action 'none'"
    )


def write_page(env: Environment, template: str, path: Path, context: dict[str, Any], code: str = "") -> None:
    """Render a template with the given context and script, and write it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    html = env.get_template(template).render(**context, policy=policy(code), code=code)
    write_text(path, html)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with "\\n" line ends on every system, so that the same inputs give the same bytes."""
    path.write_text(text, "utf-8", newline="\n")
