"""Hash all results again, and the models and data they were made from, and name what is damaged.

Exit status 1 if something is.
"""

import argparse
import sys
from pathlib import Path

from rich.filesize import decimal
from tqdm import tqdm

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.printable import printable
from shardmark.tools.planned import results_folder
from shardmark.tools.verify import checks_for, delete_damaged, verify


def main(arguments: argparse.Namespace) -> None:
    run, root = merged(arguments), Path.cwd()
    results = results_folder(Path(str(run.config.get("results", "results"))), run.where)
    todo = checks_for(results, root)
    size = sum(check.path.stat().st_size for check in todo)
    damaged = []
    with tqdm(total=size, unit="B", unit_scale=True, desc="verifying", disable=None, leave=False) as bar:
        for damage in verify(todo, root, bar.update):
            bar.write(f"damaged: {damage.problem}", file=sys.stdout)
            damaged.append(damage)
    print(f"{len(todo):,} files, {decimal(size)}: {f'{len(damaged)} damaged' if damaged else 'all are intact'}")
    if arguments.delete:
        for path in delete_damaged(damaged, results):
            print(printable(f"removed: {path}"))
    if damaged:
        sys.exit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    delete = "remove damaged files that a run can recreate; never models, data or the lock"
    parser.add_argument("--delete", action="store_true", help=delete)
    run_command(parser, main)
