"""Show the prompts of models: the first samples of each data set of a run, with their tokens and targets."""

import argparse
import signal
from collections.abc import Iterator
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.printable import printable
from shardmark.tools.prompts import show_prompts


def _lines(arguments: argparse.Namespace) -> Iterator[str]:
    wanted, models = arguments.datasets, arguments.models
    return show_prompts(merged(arguments), Path.cwd(), wanted, arguments.samples, models, arguments.tokens)


def main(arguments: argparse.Namespace) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in `| head`
    for line in _lines(arguments):
        print(printable(line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--datasets", nargs="+", default=[], metavar="GLOB", help="only these of the run's data sets")
    parser.add_argument("--models", nargs="+", default=[], metavar="GLOB", help="only these of the run's models")
    parser.add_argument("--tokens", action="store_true", help="also show the ids and texts of all tokens")
    parser.add_argument("-n", "--samples", type=int, default=3, help="number of samples of each data set (default: 3)")
    run_command(parser, main)
