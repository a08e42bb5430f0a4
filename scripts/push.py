"""Put the answers of a run into its shared store, from which other results folders take them.

Nothing in the store is replaced. Exit status 1 if a prediction file is damaged; the others are stored even then.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.plan.summary import progress
from shardmark.tools.sharing import push


def main(arguments: argparse.Namespace) -> None:
    run = merged(arguments)
    with progress(Console(stderr=True)) as step:
        done = push(run, Path.cwd(), step)
    counts = done.counts
    print(f"store {run.config['store']}: {counts['new']:,} shards added, {counts['there']:,} were already there")
    if counts["taken"]:
        print(f"{counts['taken']:,} others came from a store and are not your own")
    if counts["missing"]:
        print(f"{counts['missing']:,} shards of this run have no answers yet")
    for problem in done.problems:
        print(f"not shared: {problem}")
    if done.problems:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    run_command(parser, main)
