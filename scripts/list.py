"""List the models and data sets of config/, and mark with * those that a run selects.

Exit status 1 if one of those is broken, or the run itself is.
"""

import argparse
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.tools.catalogue import TOPICS, catalogue, print_catalogue
from shardmark.tools.planned import console


def main(arguments: argparse.Namespace) -> None:
    found = catalogue(merged(arguments), Path.cwd())
    print_catalogue(found, console(), arguments.words, arguments.topic)
    broken = [each for each in found.entries if each.selected and each.problems]
    if found.problems or broken or any(suite.selected and suite.problems for suite in found.suites):
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only entries with all of these words")
    parser.add_argument("--topic", nargs="+", default=[], choices=TOPICS, help="only data sets about one of these")
    add_config_arguments(parser)
    run_command(parser, main)
