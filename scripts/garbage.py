"""Find the results that no run of config/*.yaml needs any more; remove them with --delete.

The runs that count are those files in their current state, and the run given by --configfile and --config.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.plan.summary import progress
from shardmark.tools.collect import collect, delete, known_runs, print_collection
from shardmark.tools.planned import console


def main(arguments: argparse.Namespace) -> None:
    root = Path.cwd()
    runs = known_runs(root, arguments.only)
    given = merged(arguments) if arguments.configfile or arguments.config else None
    if given and given.config not in [run.config for run in runs]:
        runs.append(given)
    with progress(Console(stderr=True)) as step:
        found = collect(runs, root, step)
    for collection in found:
        for warning in collection.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print_collection(collection, arguments.stale, console())
    if not any(collection.garbage(arguments.stale) for collection in found):
        return
    if arguments.delete:
        delete(found, arguments.stale, root)
    print("removed" if arguments.delete else "nothing was removed; python scripts/garbage.py --delete removes them")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    only = "of config/*.yaml, count only these; without a FILE, only what --configfile and --config describe"
    parser.add_argument("--only", type=Path, nargs="*", metavar="FILE", help=only)
    stale = "also remove answers outside the current shards of needed pairs, which later shards could reuse"
    parser.add_argument("--stale", action="store_true", help=stale)
    parser.add_argument("--delete", action="store_true", help="remove the listed files")
    run_command(parser, main)
