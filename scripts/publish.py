"""Publish a finished report: to a folder, to a branch of a git remote, or to a bucket."""

import argparse

from shardmark.command import run_command
from shardmark.export.publish import publish_to
from shardmark.export.reports import add_report_argument, report_of


def main(arguments: argparse.Namespace) -> None:
    print(publish_to(arguments.target, report_of(arguments), arguments.below, arguments.remote))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    target = "a folder; git:BRANCH, such as git:gh-pages; or an address that fsspec knows, such as s3://bucket/prefix"
    parser.add_argument("target", metavar="TARGET", help=target)
    add_report_argument(parser)
    below = "folder there for the report (default: the run's name); `.` for the place itself"
    parser.add_argument("--below", metavar="FOLDER", help=below)
    parser.add_argument("--remote", default="origin", help="for git: name or address of the remote (default: origin)")
    run_command(parser, main)
