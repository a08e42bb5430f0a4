"""Tell whether this machine, a node of a cluster, has what a run's jobs need. A run on Slurm calls it by srun."""

import argparse
import socket
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.files import json_line
from shardmark.records.base import decode, to_json
from shardmark.records.node_check import NodeAnswer, NodeNeeds
from shardmark.tools.node_check import lacks


def main(arguments: argparse.Namespace) -> None:
    found = list(lacks(decode(sys.stdin.buffer.read(), NodeNeeds), arguments.results))
    print(json_line(to_json(NodeAnswer(node=socket.gethostname(), lacks=found))), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True, help="the results folder; standard input has the needs")
    run_command(parser, main)
