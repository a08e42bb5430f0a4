"""Build the HTML report and the tables of a run from its score and sample files."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.files import read_json


def main(arguments: argparse.Namespace) -> None:
    from shardmark.report import build_report  # here, since --help needs none of the templates

    given = read_json(arguments.inputs) if arguments.inputs else {}
    facts = read_json(arguments.facts) if arguments.facts else given.get("facts", {})
    scores = [*arguments.scores, *map(Path, given.get("scores", []))]
    samples = [*arguments.samples, *map(Path, given.get("samples", []))]
    run = arguments.run or given.get("run") or arguments.out.name
    timings = [Path(path) for path in given.get("timings", [])]
    more = (given.get("descriptions"), timings, given.get("groups", []), given.get("gaps", []))
    build_report(run, scores, samples, arguments.out, facts, *more)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help="name of the run, the title; by default that of --inputs, else of --out")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; a report there is replaced")
    parser.add_argument("--scores", type=Path, nargs="+", default=[], metavar="FILE", help="score files")
    parser.add_argument("--samples", type=Path, nargs="+", default=[], metavar="FILE", help="sample files")
    inputs = (
        "JSON file of the same: run, scores, samples, timings, facts; for runs of more files than a command line holds"
    )
    parser.add_argument("--inputs", type=Path, metavar="FILE", help=inputs)
    facts = "JSON file of facts about the run: generated (ISO 8601), command, config, host"
    parser.add_argument("--facts", type=Path, metavar="FILE", help=facts)
    run_command(parser, main)
