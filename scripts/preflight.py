"""Report what a run lacks on this machine: weights, tokenizers, rows, packages, devices, disk.

Exit status 1 if anything is missing.
"""

import argparse
import json
import os
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, add_machine_arguments, cores_of, merged
from shardmark.printable import printable
from shardmark.tools.node_probe import SLURM_FLAGS
from shardmark.tools.preflight import preflight


def main(arguments: argparse.Namespace) -> None:
    slurm = os.environ.get(SLURM_FLAGS)
    flags = json.loads(slurm) if slurm else None
    for line in preflight(merged(arguments), Path.cwd(), cores_of(arguments) is not None, flags):
        print(printable(line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    add_machine_arguments(parser)
    run_command(parser, main)
