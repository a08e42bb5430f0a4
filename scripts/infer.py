"""Answer the requests of a shard with a model."""

import argparse
import logging
import os
from pathlib import Path

from shardmark import layout
from shardmark.command import run_command
from shardmark.engine.worker_client import infer_with_worker
from shardmark.errors import UserError
from shardmark.processes.sockets import sole_job
from shardmark.records.model_brief import read_brief


def main(arguments: argparse.Namespace) -> None:
    with sole_job(arguments.out):
        if not _is_whole(arguments.out):
            infer(arguments)


def infer(arguments: argparse.Namespace) -> None:
    files, model = (arguments.staged, arguments.requests, arguments.out), read_brief(arguments.model)
    if owner := arguments.owner or (os.getpid() if model.needs_workers else None):
        logs = layout.WORKER_LOGS.folder(layout.PREDICTIONS.results(arguments.out))
        infer_with_worker(model, *files, arguments.threads, owner, logs)
    else:
        from shardmark.engine.infer import infer_shard  # here: a thin client needs none of its imports

        infer_shard(arguments.model, *files, arguments.threads)


def _is_whole(out: Path) -> bool:
    """Whether the predictions exist: another run has made them, or a job of several shards is tried again."""
    if not out.exists():
        return False
    from shardmark.store.predictions import check_predictions

    try:
        check_predictions(out)
    except UserError as error:
        logging.getLogger(__name__).warning("inferred again: %s", error.problems[0])
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--staged", type=Path, required=True, help="where its weights are, from stage.py")
    parser.add_argument("--requests", type=Path, required=True, help="the shard's requests")
    parser.add_argument("--out", type=Path, required=True, help="file for the predictions")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores to compute with")
    parser.add_argument("--owner", type=int, help="process that the model stays loaded for (default: one shard)")
    run_command(parser, main)
