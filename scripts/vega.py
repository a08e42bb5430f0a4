"""Make the script that draws a report's charts: while a run's first jobs work, or when Shardmark is installed."""

import argparse
import os
from pathlib import Path

from shardmark.command import run_command
from shardmark.report.vega import keep_vega, vega_script


def main(arguments: argparse.Namespace) -> None:
    os.nice(19)  # the jobs come first
    if arguments.results:
        keep_vega(arguments.results)
    else:
        vega_script()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="the results folder to keep it in; default: only the user's cache")
    run_command(parser, main)
