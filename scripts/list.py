"""List the models and data sets of config/, and which of them a run selects; * marks those.

Exit status 1 if one of those is broken, or the run itself is.
"""

import argparse
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.tools.catalogue import catalogue, print_catalogue
from shardmark.tools.planned import console


def main(arguments: argparse.Namespace) -> None:
    found = catalogue(merged(arguments), Path.cwd())
    print_catalogue(found, console())
    if found.problems or any(entry.problems for entry in found.entries if entry.selected):
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    run_command(parser, main)
