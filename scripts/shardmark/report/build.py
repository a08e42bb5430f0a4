"""The whole report: a folder of static pages that opens from the file system."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from .exports import leaderboard_csv, leaderboard_markdown
from .facts import KNOWN_FACTS, finished, packages, run_facts
from .folder import whole_folder
from .groups import Group
from .heatmap import heat_map
from .inputs import read_gap, read_samples
from .intervals import interval_panels, mean_panel
from .leaderboard import rank_models
from .pages import count_pages, page, pager, siblings
from .remarks import headline, incomplete, limits, near_misses, of_datasets, reasoning, reasons_left_out, warnings
from .render import environment, script, write_page, write_text
from .results import Descriptions, Pair, Results, read_results
from .samples import PAGE_SIZE, Shown, by_group, prepare
from .text import clean


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
) -> Path:
    """Build the report of a run in the folder `out` and return the path of its index.html.

    `scores` and `samples` are the files of the score step; a score file's samples are those with the same folder and
    file name, and may be left out, as may its `timings`. `facts` says how the run was made: "generated" (ISO 8601),
    "command", "config", "host"; any other is listed as it is. `descriptions` of "models" and "datasets" by name take
    the place of those in the score files; `groups` have the keys of Group, `gaps` those of Gap: what was to be
    scored and is not, of which the report then says that it is incomplete. The same inputs give the same bytes. `out`
    appears only once it is whole, and an earlier report there is replaced. Near misses are told on standard error too.

    Raises UserError for inputs that are malformed or do not fit together, or if `out` holds other files.
    """
    read = [Group(**clean(group)) for group in groups]
    missing = [read_gap(gap) for gap in gaps]
    results = read_results(scores, samples, descriptions, timings, read, missing)
    facts, env = dict.fromkeys(KNOWN_FACTS) | clean(facts), environment()
    with whole_folder(out) as folder:
        _write_index(env, folder, clean(run), results, facts)
        for pair in results:
            _write_samples(env, folder, clean(run), results, pair)
    for line in near_misses(results):
        print(f"warning: {line}", file=sys.stderr)
    return out / "index.html"


def _write_index(env: Environment, folder: Path, run: str, results: Results, facts: dict[str, Any]) -> None:
    board = rank_models(results)
    write_text(folder / "leaderboard.csv", leaderboard_csv(results))
    write_text(folder / "leaderboard.md", leaderboard_markdown(board))
    context = {
        "run": run, "facts": facts, "results": results, "board": board, "headline": headline(board),
        "left_out": reasons_left_out(board), "warnings": warnings(results), "missing": results.missing(),
        "limits": limits(board), "remarks": of_datasets(results), "incomplete": incomplete(board),
        "reasoning": reasoning(results),
        "heat_map": heat_map(board), "mean_panel": mean_panel(board), "panels": interval_panels(board),
        "run_facts": run_facts(results, facts), "packages": packages(results),
        "finished": finished(results), "samples": sum(pair.scores.counts.samples for pair in results),
        "several_metrics": any(len(pair.scores.metrics) > 1 for pair in results),
    }  # fmt: skip
    write_page(env, "index.html.j2", folder / "index.html", context, script())


def _write_samples(env: Environment, folder: Path, run: str, results: Results, pair: Pair) -> None:
    if pair.samples is None:
        return
    samples = read_samples(pair.samples, pair.timings.samples_sha256 if pair.timings else None)
    shown = prepare(samples, pair.scores)
    total = count_pages(len(shown))
    context = {
        "run": run, "scores": pair.scores, "total": total, "tally": _tally(shown), "size": PAGE_SIZE,
        "groups": by_group(samples, pair.scores.primary),
    }  # fmt: skip
    for number in range(1, total + 1):
        part = shown[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
        links = {"pager": pager(number, total), "siblings": siblings(results, pair, number)}
        own = {"number": number, "shown": part, "here": _tally(part), "page": page}
        write_page(env, "samples.html.j2", folder / pair.folder / page(number).file, context | links | own)


def _tally(shown: list[Shown]) -> dict[str, int]:
    verdicts = [item.verdict for item in shown]
    return {verdict: verdicts.count(verdict) for verdict in ("right", "wrong", "partial", "unscored")}
