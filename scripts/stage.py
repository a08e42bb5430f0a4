"""Put a model's weights where jobs can load them."""

import argparse
from pathlib import Path

from shardmark import layout
from shardmark.command import run_command
from shardmark.engine.stage import stage_model
from shardmark.files import pretty_json, sealed, write_whole
from shardmark.records.base import read_sealed_record, to_json
from shardmark.records.model import ModelRecord
from shardmark.store.contents import ContentHashes


def main(arguments: argparse.Namespace) -> None:
    hashes = ContentHashes(layout.MODELS.results(arguments.model))
    staged = stage_model(read_sealed_record(arguments.model, ModelRecord), arguments.weights, hashes)
    write_whole(arguments.out, pretty_json(sealed(to_json(staged))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's record, from the plan")
    parser.add_argument("--weights", type=Path, required=True, help="folder for weights that have to be converted")
    parser.add_argument(
        "--out", type=Path, required=True, help="JSON file that will say where weights and tokenizer are"
    )
    run_command(parser, main)
