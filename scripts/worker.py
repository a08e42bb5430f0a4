"""Keep a model loaded, and answer shards with it; started by infer.py."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.engine.worker import serve


def main(arguments: argparse.Namespace) -> None:
    serve(arguments.model, arguments.staged, arguments.socket, arguments.owner, arguments.engine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--staged", type=Path, required=True, help="where its weights are, from stage.py")
    parser.add_argument("--socket", type=Path, required=True, help="socket for clients")
    parser.add_argument("--owner", type=int, required=True, help="process whose end ends this one")
    parser.add_argument("--engine", default="", help="which of the model's engines, if it has several")
    run_command(parser, main)
