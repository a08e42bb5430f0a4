"""Unpack an archive of pack.py into the caches of this machine and config/, all of it or nothing.

With --configfile or --config it must have been packed for that run. Files that were unpacked before an interruption are
not written again.
"""

import argparse
from pathlib import Path

from tqdm import tqdm

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.errors import Problem, UserError
from shardmark.printable import printable
from shardmark.tools.packing import Unpacking, archive_name


def main(arguments: argparse.Namespace) -> None:
    given = merged(arguments) if arguments.configfile or arguments.config or not arguments.archive else None
    path = arguments.archive or archive_name(given or merged(arguments))
    if not path.is_file():
        raise UserError(Problem(str(path), "", "there is no such archive", "copy it here, or name another"))
    results = Path(str(given.config.get("results", "results"))) if given else arguments.results
    unpacking = Unpacking(path, Path.cwd(), results, arguments.outside, arguments.code)
    with tqdm(unit="B", unit_scale=True, desc="unpacking", disable=None, leave=False) as bar:
        done = unpacking.unpack(given, bar.update)
    print(printable(f"{path}: {done.new:,} files unpacked, {done.there:,} were already there"))
    if done.kept:
        print(f"{done.kept:,} prediction files already exist with other answers, and were kept")
    for other in done.manifest.needs:
        print(printable(f"also needed: {other}"))
    print(printable(f"run it: snakemake --profile local --configfile config/packed_{done.manifest.run}.yaml"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path, nargs="?", help="the archive (default: {run}.tar.zst in this folder)")
    add_config_arguments(parser)
    parser.add_argument("--results", type=Path, help="the folder for predictions (default: the packed run's)")
    outside = "folder for files from outside the project; / for their original places, if the archive is your own"
    parser.add_argument("--outside", type=Path, metavar="DIR", help=outside)
    parser.add_argument("--code", action="store_true", help="also unpack Python code, if you trust whoever packed it")
    run_command(parser, main)
