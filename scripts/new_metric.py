"""Write a starting point for your own metric or filter, with a test, and say how a data set names it."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.tools.scaffold import scaffold


def main(arguments: argparse.Namespace) -> None:
    file, test = scaffold(arguments.name, arguments.folder, arguments.filter)
    key = "filters" if arguments.filter else "metrics"
    print(f"wrote {file} and {test}; try it with python -m pytest {test}")
    print(f"in the data set's file: {key}: [{{file: {file}}}]; in the run's: own_code: true")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="its name; its file is FOLDER/NAME.py")
    parser.add_argument("--filter", action="store_true", help="a filter instead of a metric")
    parser.add_argument(
        "--folder", type=Path, default=Path("config/metrics"), help="folder for it (default: %(default)s)"
    )
    run_command(parser, main)
