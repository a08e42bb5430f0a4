"""The certificates of a report's models, as files beside its pages."""

import json

from .private import public
from .render import write_text
from .site import Site
from .text import pretty_json


def write_certificates(site: Site) -> None:
    """Write the certificates unchanged, except for private parts."""
    for path, _ in site.certified:
        folder = site.folder / "certificates"
        folder.mkdir(exist_ok=True)
        value = json.loads(path.read_text("utf-8"))
        shown = public(value)
        write_text(folder / path.name, path.read_text("utf-8") if shown == value else pretty_json(shown) + "\n")
