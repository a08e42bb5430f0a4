"""Pack everything that a run needs besides Shardmark into one archive for a machine without a network.

Files that were packed before an interruption are not packed again.
"""

import argparse
from pathlib import Path

from rich.filesize import decimal
from tqdm import tqdm

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments, merged
from shardmark.printable import printable
from shardmark.tools.packing import archive_name, pack


def main(arguments: argparse.Namespace) -> None:
    run = merged(arguments)
    out = arguments.out or archive_name(run)
    out = out / archive_name(run) if out.is_dir() else out
    with tqdm(unit="B", unit_scale=True, desc="packing", disable=None, leave=False) as bar:
        packed = pack(run, Path.cwd(), out, arguments.predictions, bar.update)
    files = packed.manifest.files
    content = decimal(sum({file.sha256: file.size for file in files}.values()))
    size = decimal(packed.path.stat().st_size)
    print(printable(f"{packed.path}: {len(files):,} files, {content}, packed to {size}"))
    for other in packed.manifest.needs:
        print(printable(f"not packed, but needed there: {other}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    parser.add_argument("--out", type=Path, help="the archive, or its folder (default: {run}.tar.zst in this folder)")
    parser.add_argument("--predictions", action="store_true", help="also pack the answers so far")
    run_command(parser, main)
