"""Score a model on a data set."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.metrics.score import score_dataset


def main(arguments: argparse.Namespace) -> None:
    score_dataset(
        arguments.task, arguments.model, arguments.requests, arguments.predictions, arguments.scores, arguments.samples
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=Path, required=True, help="the data set's samples and settings, from the plan")
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--requests", type=Path, required=True, help="folder of the data set's request files")
    parser.add_argument("--predictions", type=Path, required=True, help="folder of the model's predictions for it")
    parser.add_argument("--scores", type=Path, required=True, help="file for the scores")
    parser.add_argument("--samples", type=Path, required=True, help="file for the samples")
    run_command(parser, main)
