"""Keep the script that draws a report's charts in a results folder; started while a run's first jobs work."""

import argparse
import os
from pathlib import Path

from shardmark.command import run_command
from shardmark.report.vega import keep_vega


def main(arguments: argparse.Namespace) -> None:
    os.nice(19)  # the jobs come first
    keep_vega(arguments.results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the results folder")
    run_command(parser, main)
