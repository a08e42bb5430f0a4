"""Show what a run's shared store has for its models, and who put it there.

Exit status 1 if there is an entry that is not trusted.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.plan.summary import progress
from shardmark.tools.planned import console
from shardmark.tools.sharing import status, status_table


def main(arguments: argparse.Namespace) -> None:
    run = merged(arguments)
    with progress(Console(stderr=True)) as step:
        found = list(status(run, Path.cwd(), arguments.verify, step))
    console().print(status_table(found))
    refused = [problem for each in found for problem in each.refused]
    for problem in refused:
        print(problem)
    if refused:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--verify", action="store_true", help="read every entry in full, and check its contents")
    run_command(parser, main)
