"""Answer the requests of a shard with a model."""

import argparse
import logging
import os
from pathlib import Path

from shardmark import layout
from shardmark.command import run_command
from shardmark.errors import UserError


def main(arguments: argparse.Namespace) -> None:
    if _is_whole(arguments.out):
        return
    files = (arguments.model, arguments.staged, arguments.requests, arguments.out)
    if arguments.owner:
        from shardmark.engine.worker_client import infer_with_worker

        logs = layout.WORKER_LOGS.folder(layout.PREDICTIONS.results(arguments.out))
        infer_with_worker(*files, arguments.threads, arguments.owner, logs)
    else:
        from shardmark.engine.infer import infer_shard  # here: a thin client needs nothing of what it imports

        infer_shard(*files, arguments.threads)


def _is_whole(out: Path) -> bool:
    """Whether the predictions are there already: a job of several shards has been tried before."""
    if not out.exists():
        return False
    from shardmark.store.predictions import check_predictions

    try:
        check_predictions(out)
    except UserError as error:
        logging.getLogger(__name__).warning("inferred again: %s", error)
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--staged", type=Path, required=True, help="where its weights are, from stage.py")
    parser.add_argument("--requests", type=Path, required=True, help="the shard's requests")
    parser.add_argument("--out", type=Path, required=True, help="file for the predictions")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores to compute with")
    parser.add_argument("--owner", type=int, help="process with which the model stays loaded; without it, it does not")
    run_command(parser, main)
