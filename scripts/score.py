"""Score a model on a data set."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.scoring.score import score_dataset


def main(arguments: argparse.Namespace) -> None:
    out = (arguments.scores, arguments.samples, arguments.timings)
    score_dataset(arguments.task, arguments.bits, arguments.model, arguments.results, *out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", type=Path, required=True, help="the data set's samples and settings, from the plan")
    parser.add_argument("--bits", type=int, required=True, help="the data set was divided into 2**BITS shards")
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--results", type=Path, required=True, help="folder of requests and predictions")
    parser.add_argument("--scores", type=Path, required=True, help="file for the scores")
    parser.add_argument("--samples", type=Path, required=True, help="file for the samples")
    parser.add_argument("--timings", type=Path, required=True, help="file for the times of inference")
    run_command(parser, main)
