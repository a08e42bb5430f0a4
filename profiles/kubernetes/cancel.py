#!/usr/bin/env python
"""Stop jobs on Kubernetes."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from shardmark.command import run_command
from shardmark.tools.kubernetes import stop

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="+", help="their ids")
    run_command(parser, lambda arguments: stop(arguments.jobs))
