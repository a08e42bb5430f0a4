"""Fetch and pin everything that a run needs from the Hub; afterwards it needs no network."""

import argparse
import logging
import os
import sys
from pathlib import Path

from rich.filesize import decimal

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.lock.lock import LOCK
from shardmark.printable import printable
from shardmark.tools.stage_run import stage_run


def main(arguments: argparse.Namespace) -> None:
    for library in ("httpx2", "huggingface_hub", "datasets"):  # they log addresses; those of big files are signed
        logging.getLogger(library).setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # bars would fill a file
    staged = stage_run(merged(arguments), Path.cwd(), LOCK, lambda line: print(printable(line), flush=True))
    size = f"{staged.repositories} repositories of models ({decimal(staged.bytes)}), {staged.datasets} data sets"
    print(f"everything is here: {size}; with `offline: true`, the run does not contact the Hub")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    run_command(parser, main)
