"""Make a folder for your own models, data sets and runs; existing files are left as they are."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.report.vega import begin_vega
from shardmark.tools.init import init


def main(arguments: argparse.Namespace) -> None:
    for path, is_new in init(arguments.folder):
        print(f"{path}" if is_new else f"{path}: already exists, left as it is")
    begin_vega()  # for the first report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: the current folder")
    run_command(parser, main)
