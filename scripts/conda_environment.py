"""Write envs/environment.yaml from envs/requirements.txt: Snakemake copies it away, so it cannot refer to that file."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.files import write_if_changed

HEAD = """\
# The conda environment of the rules, for `snakemake --software-deployment-method conda`: Python, and the packages of
# requirements.txt at the same versions. Written by `make pins`; do not edit.
name: shardmark
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def main(arguments: argparse.Namespace) -> None:
    lines = (line.partition("#")[0].strip() for line in arguments.requirements.read_text().splitlines())
    write_if_changed(arguments.out, HEAD + "".join(f"      - {line}\n" for line in lines if line))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requirements", type=Path, default=Path("envs/requirements.txt"), help="pinned packages")
    parser.add_argument("--out", type=Path, default=Path("envs/environment.yaml"), help="the environment to write")
    run_command(parser, main)
