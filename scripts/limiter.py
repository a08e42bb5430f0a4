"""Keep all jobs of a results folder to the pace of their endpoints; started by the first job that asks one."""

import argparse
from pathlib import Path

from shardmark.command import run_command
from shardmark.engine.endpoints.limiter import run_limiter

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="socket for jobs that ask")
    run_command(parser, lambda arguments: run_limiter(arguments.socket))
