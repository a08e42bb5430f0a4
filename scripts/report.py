"""Build the HTML report and the tables of a run from its score and sample files."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shardmark.command import run_command
from shardmark.errors import UserError
from shardmark.files import read_json
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.report_inputs import ReportInputs

if TYPE_CHECKING:
    from shardmark.report.changes import Previous


def main(arguments: argparse.Namespace) -> None:
    from shardmark.report.build import build_report  # here, since --help needs none of the templates

    given = read_sealed_record(arguments.inputs, ReportInputs) if arguments.inputs else ReportInputs()
    facts = read_json(arguments.facts) if arguments.facts else given.facts
    build_report(
        arguments.run or given.run or arguments.out.name,
        [*arguments.scores, *map(Path, given.scores)],
        [*arguments.samples, *map(Path, given.samples)],
        arguments.out,
        facts,
        given.descriptions or None,
        [Path(path) for path in given.timings],
        to_json(given.groups),
        to_json(given.gaps),
        [Path(path) for path in given.certificates],
        kept=_results(arguments.inputs),
        slurm_jobs=[path for path in map(Path, given.slurm_jobs) if path.is_file()],
        mean_weights=given.mean_weights,
        prices=given.prices,
        previous=_previous(arguments.inputs, given.against) if given.against else None,
    )


def _results(inputs: Path | None) -> Path | None:
    """The results folder of a list of inputs, in which parts of reports are kept; None for other lists."""
    from shardmark import layout

    try:
        return layout.REPORT_INPUTS.results(inputs) if inputs and layout.REPORT_INPUTS.fields(inputs) else None
    except ValueError:
        return None


def _previous(inputs: Path | None, name: str) -> "Previous | None":
    """The previous report; None, with a warning, if its scores are gone, which is no reason to have no report."""
    from shardmark.export.finished import read_previous
    from shardmark.report.changes import Previous

    results = _results(inputs)
    try:
        return Previous(name, read_previous(results, name)) if results else None
    except UserError as error:
        print(f"warning: no comparison with {name}: {error.problems[0]}", file=sys.stderr)
        return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="name of the run and title (default: that of --inputs, else of --out)")
    parser.add_argument("--out", type=Path, required=True, help="folder to create; a report there is replaced")
    parser.add_argument("--scores", type=Path, nargs="+", default=[], metavar="FILE", help="score files")
    parser.add_argument("--samples", type=Path, nargs="+", default=[], metavar="FILE", help="sample files")
    inputs = (
        "JSON file with all of this: run, scores, samples, timings, facts; for more files than fit on a command line"
    )
    parser.add_argument("--inputs", type=Path, metavar="FILE", help=inputs)
    facts = "JSON file of facts about the run: generated (ISO 8601), command, config, host"
    parser.add_argument("--facts", type=Path, metavar="FILE", help=facts)
    run_command(parser, main)
