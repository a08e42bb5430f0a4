"""The page of how a run was made."""

from typing import Any

from .facts import packages, run_facts
from .remarks import endpoints, warnings
from .site import Page, Site


def write_provenance(site: Site, page: Page) -> None:
    """Write the page of how the run was made."""
    certified = [(path.name, certificate) for path, certificate in site.certified]
    site.write(
        page, "provenance.html.j2", ["sort.js"],
        run_facts=run_facts(site.results, site.facts), packages=packages(site.results),
        certified=certified, endpoints=endpoints(site.results), pins=_pins(site), warned=bool(warnings(site.results)),
    )  # fmt: skip


def _pins(site: Site) -> dict[str, dict[str, Any]]:
    """The lock's pins of models and data sets: commits and hashes, as the scores note them."""
    found: dict[str, dict[str, Any]] = {"models": {}, "datasets": {}}
    for pair in site.results:
        config = pair.scores.provenance.config
        weights = {key: config[key] for key in ("weights", "adapter") if key in config}
        found["models"].setdefault(pair.scores.model.name, weights)
        found["datasets"].setdefault(pair.scores.dataset.name, pair.scores.provenance.rows)
    return {kind: {name: pin for name, pin in pins.items() if pin} for kind, pins in found.items()}
