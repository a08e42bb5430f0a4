"""Do the imports of a kind of job, and fork for each job that arrives; started by warm.py."""

import argparse
from pathlib import Path

from shardmark.processes.forkserver import serve_forks

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="socket for clients; its name says which kind")
    parser.add_argument("--owner", type=int, required=True, help="process whose end ends this one")
    arguments = parser.parse_args()
    serve_forks(arguments.socket, arguments.owner)
