"""Compare models of a finished report with each other, two of its data sets, or the report with another one."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.export.reports import add_report_argument, report_of
from shardmark.files import pretty_json, write_whole


def main(arguments: argparse.Namespace) -> None:
    from shardmark.records.base import to_json  # here, since --help needs none of this
    from shardmark.tools import compare
    from shardmark.tools.planned import console

    report = report_of(arguments)
    if arguments.against:
        changes = compare.compare_reports(report, arguments.against)
        if arguments.html:
            from shardmark.report.changes_page import write_changes

            write_changes(arguments.html, changes, arguments.against.resolve().name, report.resolve().name)
        if arguments.json:
            write_whole(arguments.json, pretty_json([to_json(change) for change in changes]))
        if changes:
            console().print(compare.changes_table(changes))
        for line in compare.changed_samples(changes):
            console().print(line, markup=False, highlight=False)
        print(f"{len(changes)} of the report's results differ from those of {arguments.against}")
        return
    found = compare.compare_report(report, arguments.models, arguments.datasets)
    if arguments.json:
        write_whole(arguments.json, pretty_json([to_json(each) for each in found]))
    for each in found:
        console().print(compare.comparison_table(each))
        for line in compare.legend(each):
            console().print(line, markup=False, highlight=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_report_argument(parser)
    models = "compare these models with each other (default: all)"
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help=models)
    datasets = "on these data sets (default: all); two without --models: compare them with each other"
    parser.add_argument("--datasets", nargs="+", default=[], metavar="NAME", help=datasets)
    against = "show what differs from this report, an earlier one or that of another run, and why"
    parser.add_argument("--against", type=Path, metavar="FOLDER", help=against)
    parser.add_argument("--html", type=Path, metavar="FILE", help="with --against: also write that as a page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers as JSON")
    run_command(parser, main)
