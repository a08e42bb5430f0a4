#!/usr/bin/env python
"""Print what has become of a job on PAI-DLC: running, success or failed."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from shardmark.command import run_command
from shardmark.tools.dlc import state


def main(arguments: argparse.Namespace) -> None:
    found, warning = state(arguments.job)
    if warning:
        print(warning, file=sys.stderr)
    print(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", help="the job's id")
    run_command(parser, main)
