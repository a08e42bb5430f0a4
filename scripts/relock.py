"""Resolve a run's models and data sets again, and show what moved in config/benchmark.lock."""

import argparse
import logging
import sys
from pathlib import Path

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.lock.lock import LOCK
from shardmark.printable import printable
from shardmark.tools.relock import relock


def main(arguments: argparse.Namespace) -> None:
    for library in ("httpx2", "huggingface_hub", "datasets"):  # they log addresses; those of big files are signed
        logging.getLogger(library).setLevel(logging.ERROR)
    changes = relock(merged(arguments), Path.cwd(), LOCK, arguments.check, arguments.prune)
    for change in changes:
        logging.info("%s", change)
        print(printable(f"lock: {change}"))
    done = "would change; nothing was written" if arguments.check else "changed; commit it"
    print(f"{LOCK}: {len(changes)} entr{'y' if len(changes) == 1 else 'ies'} {done}" if changes else f"{LOCK}: current")
    if arguments.check and changes:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the lock would change")
    parser.add_argument(
        "--prune", action="store_true", help="drop entries that no file in config/ can refer to any more"
    )
    run_command(parser, main)
