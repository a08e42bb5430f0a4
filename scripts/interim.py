"""Report what a run has so far, while it runs: scores of the shards that are answered, with what part they are."""

import argparse
from datetime import UTC, datetime

from shardmark.command import run_command
from shardmark.config.merge import add_config_arguments
from shardmark.export.reports import run_of


def main(arguments: argparse.Namespace) -> None:
    from rich.box import SIMPLE_HEAD  # here, since --help needs none of this
    from rich.table import Table

    from shardmark.tools.interim import interim
    from shardmark.tools.planned import console

    found = interim(*run_of(arguments), datetime.now(UTC).isoformat(timespec="seconds"))
    table = Table("model", "data set", "score", "so far", box=SIMPLE_HEAD, pad_edge=False)
    for state in found.states:
        table.add_row(state.model, state.dataset, state.score, state.state)
    console().print(table)
    print(f"interim report: {found.report}" if found.report else "no report: there are no scores yet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    add_config_arguments(parser)
    run_command(parser, main)
