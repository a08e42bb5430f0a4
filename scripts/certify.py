"""Certify how far two models of a run agree, such as the same weights in two backends."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.tools.certify import REQUESTS, certify, tables
from shardmark.tools.planned import console


def main(arguments: argparse.Namespace) -> None:
    path, certificate = certify(merged(arguments), arguments.models, Path.cwd(), arguments.requests)
    for table in tables(certificate):
        console().print(table)
    print(
        "both make the same choices and texts"
        if certificate.between.whole
        else "their choices or texts differ, see above"
    )
    print(f"certificate: {path}; the next report of a run with one of these models shows it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--models", nargs=2, required=True, metavar=("A", "B"), help="the two models")
    how_many = f"number of requests, over all data sets (default: {REQUESTS})"
    parser.add_argument("-n", "--requests", type=int, default=REQUESTS, help=how_many)
    run_command(parser, main)
