"""Write the JSON schemas of the configuration files to config/schemas."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.config import schemas
from shardmark.files import pretty_json, write_if_changed


def main(arguments: argparse.Namespace) -> None:
    for name, schema in schemas().items():
        write_if_changed(arguments.out / name, pretty_json(schema))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("config/schemas"), help="folder for the schemas")
    run_command(parser, main)
