"""The whole report: a folder of static pages that opens from the file system."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import charts_page, compare_page
from .certificates import write_certificates
from .changes import Previous, changes
from .changes_page import write_previous
from .chunks import Chunks
from .crate import write_crate
from .explorer import write_explorer
from .exports import write_tables
from .facts import KNOWN_FACTS, jobs_used
from .folder import whole_folder
from .groups import Group
from .index import write_index, write_metrics
from .inputs import read_certificate, read_gap
from .leaderboard import rank_models
from .paired import Comparisons
from .parts import Parts
from .private import public
from .provenance import write_provenance
from .remarks import near_misses
from .render import environment
from .results import Descriptions, Prices, Results, read_results
from .site import Certified, Page, Site
from .text import clean


def _has_samples(results: Results) -> bool:
    return any(pair.samples for pair in results)


def _has_several_metrics(results: Results) -> bool:
    return any(len(pair.scores.metrics) > 1 for pair in results)


PAGES = (
    Page("index.html", "Leaderboard", write_index),
    Page("compare.html", "Compare", compare_page.write_compare, wanted=compare_page.wanted),
    Page("charts.html", "Charts", charts_page.write_charts, wanted=charts_page.wanted),
    Page("samples.html", "Samples", write_explorer, wanted=_has_samples),
    Page("metrics.html", "All metrics", write_metrics, wanted=_has_several_metrics),
    Page("provenance.html", "How it was run", write_provenance),
)
"The pages, in the order of the navigation."
CHANGES = Page("changes.html", "What changed", write_previous)
"The page before the last one, if there is a previous report."
FILES: tuple[Callable[[Site], None], ...] = (write_tables, write_certificates, write_crate)
"Functions that write the files that are not pages."


def warm_up() -> None:
    """Do work that each report would repeat, before a process forks for them."""
    import altair as alt

    alt.Chart().mark_bar().to_dict()  # loads the schema that charts are checked with
    for template in environment().list_templates(extensions=["j2"]):
        environment().get_template(template)


def begin_drawing() -> None:
    """Start the engine that draws charts, half of the time that a small report takes; a fork would not inherit it."""
    import vl_convert

    vl_convert.vegalite_to_svg({"mark": "bar", "data": {"values": []}})


def build_report(
    run: str,
    scores: list[Path],
    samples: list[Path],
    out: Path,
    facts: dict[str, Any],
    descriptions: Descriptions | None = None,
    timings: Sequence[Path] = (),
    groups: Sequence[dict[str, Any]] = (),
    gaps: Sequence[dict[str, Any]] = (),
    certificates: Sequence[Path] = (),
    kept: Path | None = None,
    slurm_jobs: Sequence[Path] = (),
    mean_weights: Mapping[str, float] | None = None,
    previous: Previous | None = None,
    prices: Prices | None = None,
) -> Path:
    """Build the report of a run in the folder `out` and return the path of its index.html.

    `scores` and `samples` are the files of the score step; a score file's samples are those with the same folder and
    file name, and may be left out, as may its `timings`. `facts` describes how the run was made: "generated" (ISO
    8601), "command", "config", "host"; any other is listed as it is. `descriptions` of "models" and "datasets" by name
    replace those in the score files; `groups` have the keys of Group, `gaps` those of Gap: results that are missing,
    which makes the report say that it is incomplete; `certificates` are files of certify.py, which are shown and
    copied; `slurm_jobs` are files of what Slurm's accounting says of the models' jobs; `mean_weights` are those of data
    sets and groups in the mean that ranks models; a page says what has changed since the `previous` report; `prices`
    are those of models whose answers were scored without one. `kept` is a results folder in which data made from a file
    of samples is kept for the next report. The same inputs give the same bytes, with it or without. `out` appears only
    once it is complete, replacing an earlier report.
    Near misses are also reported on standard error.

    Raises UserError for inputs that are malformed or do not fit together, or if `out` contains other files.
    """
    read = [Group(**public(group)) for group in groups]
    missing = [read_gap(public(gap)) for gap in gaps]
    results = read_results(scores, samples, descriptions, timings, read, missing, mean_weights, prices)
    pages = [page for page in PAGES if page.wanted(results)]
    certified = [Certified(path, read_certificate(path)) for path in certificates]
    with whole_folder(out) as folder:
        chunks = Chunks(folder)
        parts = Parts(chunks, kept)
        compared = Comparisons(results, parts)
        site = Site(
            run=clean(run),
            folder=folder,
            results=results,
            board=rank_models(results, compared),
            compared=compared,
            facts=dict.fromkeys(KNOWN_FACTS) | public(facts) | {"slurm": jobs_used(slurm_jobs)},
            env=environment(),
            chunks=chunks,
            parts=parts,
            certified=certified,
            pages=[*pages[:-1], *([CHANGES] if previous else []), pages[-1]],
            previous=previous,
            changes=changes(previous.results, results) if previous else (),
        )
        for page in site.pages:
            page.write(site, page)
        for write in FILES:
            write(site)
        parts.save()
    for line in near_misses(results):
        print(f"warning: {line}", file=sys.stderr)
    return out / "index.html"
