"""Write a finished report in other programs' formats: lm-eval's logs, Every Eval Ever, the Hub's results, Parquet."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.export.registry import FORMATS, export
from shardmark.export.reports import add_report_argument, report_of


def main(arguments: argparse.Namespace) -> None:
    report = report_of(arguments)
    out = arguments.out or report.parent.parent / "exports" / report.name
    for line in export(report, arguments.formats or list(FORMATS), out):
        print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    formats = f"{', '.join(FORMATS)}; by default all of them"
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=formats)
    add_report_argument(parser)
    parser.add_argument("--out", type=Path, help="folder to write to, by default results/exports/RUN")
    run_command(parser, main)
