"""Check a report against a policy: exit status 0 if it passes, 1 if it fails, 2 if it is undecided."""

import argparse
import logging
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.errors import UserError
from shardmark.export.reports import add_report_argument, report_of
from shardmark.printable import printable


def main(arguments: argparse.Namespace) -> None:
    from shardmark.tools.gate import EXIT, judge, write_verdict  # here, since --help needs none of this

    report = report_of(arguments)
    verdict = judge(report, arguments.policy)
    page = write_verdict(verdict, arguments.out or report.resolve())
    for check in [*verdict.of("fail"), *verdict.of("undecided")]:
        print(printable(f"{check.status}: {check.model} on {check.dataset}: {check.what}: {check.why}"))
    print(printable(verdict.summary))
    print(f"page: {page}")
    sys.exit(EXIT[verdict.status])


def undecided_if_it_fails(arguments: argparse.Namespace) -> None:
    """Exit with status 2 for mistakes and errors, which are not verdicts; other commands exit with 1."""
    try:
        main(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        logging.exception("failed")
        print(printable(f"{type(error).__name__}: {error}"), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE", help="YAML file; see docs/gate.md")
    add_report_argument(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder for gate.html and gate.json (default: the report's)"
    )
    run_command(parser, undecided_if_it_fails)
