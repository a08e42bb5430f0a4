"""Show the work of a run: shards, requests to infer and predicted time for each model and data set."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, add_machine_arguments, cores_of, merged
from shardmark.files import pretty_json
from shardmark.plan.summary import progress
from shardmark.records.base import to_json
from shardmark.tools.details import plan_details, print_details
from shardmark.tools.planned import console, plan_run
from shardmark.workflow.snakefile import slots


def main(arguments: argparse.Namespace) -> None:
    run, jobs, cores = merged(arguments), arguments.jobs, cores_of(arguments)
    with progress(Console(stderr=True)) as step:
        plan = plan_run(run, Path.cwd(), cores is not None, step)
    details = plan_details(plan, lambda pair: slots(pair.model.settings, run.config, cores, jobs))
    if arguments.json:
        print(pretty_json(to_json(details)), end="")
        return
    print_details(details, console())
    for warning in details.warnings:
        print(f"warning: {warning}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_machine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    run_command(parser, main)
