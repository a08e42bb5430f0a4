"""Answer the requests of a shard with a model."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.engine.infer import infer_shard


def main(arguments: argparse.Namespace) -> None:
    infer_shard(arguments.model, arguments.staged, arguments.requests, arguments.out, arguments.threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--staged", type=Path, required=True, help="where its weights are, from stage.py")
    parser.add_argument("--requests", type=Path, required=True, help="the shard's requests")
    parser.add_argument("--out", type=Path, required=True, help="file for the predictions")
    parser.add_argument("--threads", type=int, default=1, help="cores to compute with")
    run_command(parser, main)
