"""Take a run's answers from its shared store, as each plan of the run does, and report what remains to be done."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.plan.summary import progress
from shardmark.tools.planned import plan_run
from shardmark.tools.sharing import store_of


def main(arguments: argparse.Namespace) -> None:
    run = merged(arguments)
    store_of(run).check()
    with progress(Console(stderr=True)) as step:
        plan = plan_run(run, Path.cwd(), local=False, step=step)
    for warning in plan.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for line in plan.shared or [f"store {run.config['store']}: has nothing that is missing here"]:
        print(line)
    left, shards = sum(pair.requests for pair in plan.pairs), sum(len(pair.missing) for pair in plan.pairs)
    print(f"{left:,} requests in {shards:,} shards remain to be inferred")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    run_command(parser, main)
