"""Infer some random requests of a finished report again, and report how many answers agree.

Exit status 1 if one does not.
"""

import argparse
import secrets
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.printable import printable
from shardmark.tools.audit import REQUESTS, audit, audit_table, differences
from shardmark.tools.planned import console


def main(arguments: argparse.Namespace) -> None:
    run, seed = merged(arguments), arguments.seed
    found = list(audit(run, Path.cwd(), arguments.requests, seed, arguments.tolerance))
    console().print(audit_table(found))
    for line in differences(found):
        print(printable(line))
    agree = sum(each.agrees for each in found)
    print(f"{agree:,} of {len(found):,} requests agree (drawn with --seed {seed})")
    if agree < len(found):
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    how_many = f"number of requests, over all models and data sets (default: {REQUESTS})"
    parser.add_argument("-n", "--requests", type=int, default=REQUESTS, help=how_many)
    seed = "seed of the random choice; the same seed chooses the same requests (default: a new one each time)"
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32), help=seed)
    tolerance = "allowed difference of log-likelihoods (default: 1e-4 in float32, else 0.1); texts must be identical"
    parser.add_argument("--tolerance", type=float, help=tolerance)
    run_command(parser, main)
